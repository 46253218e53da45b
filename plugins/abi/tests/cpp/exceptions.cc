/* A host and a plugin in one program: what the plugin throws must come out as a status with its text. */
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "logitfuse_plugin.hpp"

LF_DEFINE_META({ "abi": [1, 0], "plugin": { "id": "test", "version": "1" }, "strategies": [ { "id": "thrower", "roles": [] } ] });

namespace {

int alive = 0;  // objects that were made and not yet destroyed

struct Counted {
  Counted() { ++alive; }
  Counted(const Counted &) { ++alive; }
  ~Counted() { --alive; }
};

class State {
 public:
  explicit State(std::int64_t mode) : mode_(mode) {}
  void fuse(const lf::Step &step, lf::Out &out) {
    if (mode_ == 1) throw lf::Error(LF_E_NUMERIC, "nothing is possible");
    if (mode_ == 2) throw std::runtime_error("a bug");
    if (mode_ == 3) throw 42;
    for (std::size_t i = 0; i < out.logits.size(); ++i) out.logits[i] = step.row(0).logits[i] + float(committed_);
  }
  void commit(lf::View<const std::uint32_t> tokens) { committed_ += tokens.size(); }
  void rollback(std::uint64_t n) {
    if (n > committed_) throw lf::Error(LF_E_STATE, "more than were committed");
    committed_ -= static_cast<std::size_t>(n);
  }

 private:
  Counted counted_;
  std::int64_t mode_;
  std::size_t committed_ = 0;
};

class Thrower {
 public:
  explicit Thrower(const lf::Params &params) : mode_(params.integer("/mode", 0)) {
    if (mode_ == 4) throw lf::Error(LF_E_CONFIG, "must not be 4", "/mode");
  }
  State start(const lf::Session &session) const {
    session.row_of("base");
    return State(mode_);
  }

 private:
  Counted counted_;
  std::int64_t mode_;
};

/* The host: its only parameter is an integer, and its only key /mode. */
lf_status get_i64(void *, lf_str params, lf_str pointer, std::int64_t *out, lf_error *) noexcept {
  if (lf::view(pointer) == "/mode") *out = std::stoll(std::string(lf::view(params)));
  return LF_OK;
}
const lf_config_v1 config = {sizeof(lf_config_v1), 0, nullptr, nullptr, get_i64, nullptr, nullptr, nullptr, nullptr};
void log(void *, std::uint32_t, lf_str) noexcept {}
const void *get_extension(void *, lf_str name) noexcept { return lf::view(name) == LF_EXT_CONFIG ? &config : nullptr; }
const lf_host_v1 host = {sizeof(lf_host_v1), 0, nullptr, log, get_extension};

struct Told {
  char message[64], path[64], help[64];
  lf_error error{sizeof(lf_error), 0, {message, 64, 0}, {path, 64, 0}, {help, 64, 0}};
  bool says(const char *text, const char *where = "") const {
    return std::string(message, error.message.len) == text && std::string(path, error.path.len) == where;
  }
};

#define CHECK(what)                                                    \
  if (!(what)) {                                                       \
    std::fprintf(stderr, "line %d does not hold: %s\n", __LINE__, #what); \
    std::exit(1);                                                      \
  }

void try_mode(const lf_strategy_v1 &strategy, const char *mode, lf_status expected, const char *message) {
  lf_instance *instance = nullptr;
  CHECK(strategy.create(&host, lf::str(mode), &instance, nullptr) == LF_OK);
  const lf_binding base = {lf::str("base"), lf::str("model")};
  const lf_session session = {sizeof(lf_session), 1, &base, 2, nullptr, 0};
  lf_state *state = nullptr;
  CHECK(strategy.state_new(instance, &session, &state, nullptr) == LF_OK);

  const float logits[2] = {1, 2};
  float fused[2] = {0, 0};
  const lf_row row = {logits, 2.3, 0};
  const lf_step step = {sizeof(lf_step), 1, &row, 2, nullptr, 0};
  lf_out out = {sizeof(lf_out), 0, fused, 2, nullptr};
  Told told;
  CHECK(strategy.fuse(state, &step, &out, &told.error) == expected);
  CHECK(told.says(message));
  if (expected == LF_OK) {
    const std::uint32_t tokens[2] = {0, 1};
    lf_state *fork = nullptr;
    CHECK(strategy.commit(state, tokens, 2, nullptr) == LF_OK);
    CHECK(strategy.state_fork(state, &fork, nullptr) == LF_OK);
    CHECK(strategy.rollback(state, 1, nullptr) == LF_OK);
    CHECK(strategy.fuse(fork, &step, &out, nullptr) == LF_OK && fused[0] == 3);
    CHECK(strategy.fuse(state, &step, &out, nullptr) == LF_OK && fused[0] == 2);
    CHECK(strategy.rollback(state, 2, &told.error) == LF_E_STATE && told.says("more than were committed"));
    strategy.state_free(fork);
  }
  strategy.state_free(state);
  strategy.destroy(instance);
}

}  // namespace

LF_EXPORT_STRATEGIES(lf::Exported<Thrower>{"thrower"});

int main() {
  Told told;
  CHECK(!lf_plugin_entry_v1(nullptr, &told.error) && told.says("no host of ABI 1"));
  const lf_plugin_v1 *plugin = lf_plugin_entry_v1(&host, nullptr);
  CHECK(plugin && plugin->n_strategies == 1 && lf::view(plugin->meta).substr(0, 8) == "LFMETA01");
  const lf_strategy_v1 &strategy = *plugin->strategies[0];
  CHECK(lf::view(strategy.id) == "thrower" && !strategy.settle && strategy.commit);

  try_mode(strategy, "0", LF_OK, "");
  try_mode(strategy, "1", LF_E_NUMERIC, "nothing is possible");
  try_mode(strategy, "2", LF_E_PANIC, "a bug");
  try_mode(strategy, "3", LF_E_PANIC, "an exception that is no std::exception");

  lf_instance *instance = nullptr;
  CHECK(strategy.create(&host, lf::str("4"), &instance, &told.error) == LF_E_CONFIG && !instance);
  CHECK(told.says("must not be 4", "/mode"));
  CHECK(strategy.create(&host, lf::str("0"), &instance, nullptr) == LF_OK);
  const lf_session empty = {sizeof(lf_session), 0, nullptr, 2, nullptr, 0};
  lf_state *state = nullptr;
  CHECK(strategy.state_new(instance, &empty, &state, &told.error) == LF_E_INCOMPATIBLE && !state);
  CHECK(told.says("base: one source takes this role"));
  strategy.destroy(instance);
  strategy.destroy(nullptr);
  strategy.state_free(nullptr);
  CHECK(alive == 0);
}
