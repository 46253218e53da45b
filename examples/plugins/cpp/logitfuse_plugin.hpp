/*
 * logitfuse_plugin.hpp: fusion strategies for logitfuse in C++17.  A thin layer over logitfuse_plugin.h, which is the
 * specification: objects that free themselves, exceptions that stay inside, views instead of pointers with lengths.
 *
 * SPDX-License-Identifier: MIT-0 OR MIT OR Apache-2.0
 *
 * A strategy is a class with
 *
 *   explicit Strategy(const lf::Params &);                    parameters; throw lf::Error to refuse them
 *   State start(const lf::Session &) const;                   a fresh state for one sequence
 *
 * and a state is a class with
 *
 *   void fuse(const lf::Step &, lf::Out &);                   see lf_strategy_v1.fuse
 *   void commit(lf::View<std::uint32_t>);                     both or neither; with them, copying the state is its fork
 *   void rollback(std::uint64_t);
 *   bool settle(const lf::Step &lead, lf::Out &);             optional
 *
 * One line at the end of the file exports them, in the order of the metadata:
 *
 *   LF_DEFINE_META({ ... });
 *   LF_EXPORT_STRATEGIES(lf::Exported<Strategy>{"its-id"});
 *
 * An lf::Error becomes its status.  Any other exception is a bug: the host is told LF_E_PANIC and its text, and the state
 * takes no further calls.
 */
#ifndef LOGITFUSE_PLUGIN_HPP
#define LOGITFUSE_PLUGIN_HPP

#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "logitfuse_plugin.h"

namespace lf {

/* ------------------------------------------------------------------------------------------------- texts and errors */

inline lf_str str(std::string_view s) noexcept { return {s.data(), s.size()}; }
inline std::string_view view(lf_str s) noexcept { return {s.ptr, static_cast<std::size_t>(s.len)}; }

/* What a call fails with.  `path` is the JSON pointer of a parameter. */
class Error : public std::runtime_error {
 public:
  Error(lf_status status, const std::string &message, std::string path = {})
      : std::runtime_error(message), status_(status), path_(std::move(path)) {}
  lf_status status() const noexcept { return status_; }
  const std::string &path() const noexcept { return path_; }

 private:
  lf_status status_;
  std::string path_;
};

/* Borrowed elements, for the length of a call. */
template <class T>
class View {
 public:
  View(T *data, std::uint64_t size) noexcept : data_(data), size_(static_cast<std::size_t>(size)) {}
  T *begin() const noexcept { return data_; }
  T *end() const noexcept { return data_ + size_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T &operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T *data_;
  std::size_t size_;
};

/* --------------------------------------------------------------------------------------------------------- arguments */

/* An lf_error with buffers of its own, for calls into the host. */
class Report {
 public:
  Report() noexcept : error_{sizeof(lf_error), 0, buffer(0), buffer(1), buffer(2)} {}
  Report(const Report &) = delete;
  Report &operator=(const Report &) = delete;
  lf_error *get() noexcept { return &error_; }
  void check(lf_status status) const {
    if (status != LF_OK) throw Error(status, text(error_.message), text(error_.path));
  }

 private:
  static constexpr std::size_t capacity = 512;
  lf_buf buffer(int i) noexcept { return {bytes_[i], capacity, 0}; }
  static std::string text(const lf_buf &b) {
    return {b.ptr, static_cast<std::size_t>(b.len < b.cap ? b.len : b.cap)};
  }
  char bytes_[3][capacity];
  lf_error error_;
};

/* The parameters.  An absent key gives the default. */
class Params {
 public:
  Params(const lf_host_v1 *host, lf_str json) : json_(json) {
    config_ = static_cast<const lf_config_v1 *>(host->get_extension(host->ctx, str(LF_EXT_CONFIG)));
    if (!config_) throw Error(LF_E_UNSUPPORTED, "the host has no " LF_EXT_CONFIG);
  }
  double number(const char *pointer, double otherwise) const { return get(config_->get_f64, pointer, otherwise); }
  std::int64_t integer(const char *pointer, std::int64_t otherwise) const {
    return get(config_->get_i64, pointer, otherwise);
  }
  bool boolean(const char *pointer, bool otherwise) const {
    return get(config_->get_bool, pointer, std::uint32_t{otherwise}) != 0;
  }
  /* A number in a closed range, which NaN is not. */
  double number_within(const char *pointer, double otherwise, double least, double most) const {
    const double x = number(pointer, otherwise);
    if (!(x >= least && x <= most))
      throw Error(LF_E_CONFIG, "must be from " + std::to_string(least) + " to " + std::to_string(most), pointer);
    return x;
  }
  /* Refuses keys that are none of these. */
  template <class... Names>
  void only(Names... names) const {
    const lf_str keys[] = {str(names)...};
    Report report;
    report.check(config_->only_keys(config_->ctx, json_, str(""), keys, sizeof...(names), report.get()));
  }
  std::string_view json() const noexcept { return view(json_); }

 private:
  template <class F, class T>
  T get(F getter, const char *pointer, T value) const {
    Report report;
    report.check(getter(config_->ctx, json_, str(pointer), &value, report.get()));
    return value;
  }
  const lf_config_v1 *config_;
  lf_str json_;
};

/* Roles and vocabulary. */
class Session {
 public:
  explicit Session(const lf_session &c) noexcept : c_(c) {}
  std::size_t width() const noexcept { return static_cast<std::size_t>(c_.width); }
  View<const std::uint32_t> masked() const noexcept { return {c_.masked, c_.n_masked}; }
  std::uint32_t count(std::string_view role) const noexcept {
    std::uint32_t n = 0;
    for (const lf_binding &b : bindings()) n += view(b.role) == role;
    return n;
  }
  /* The one row that plays this role. */
  std::uint32_t row_of(std::string_view role) const {
    if (count(role) != 1) throw Error(LF_E_INCOMPATIBLE, std::string(role) + ": one source takes this role");
    std::uint32_t i = 0;
    while (view(c_.bindings[i].role) != role) ++i;
    return i;
  }
  View<const lf_binding> bindings() const noexcept { return {c_.bindings, c_.n_rows}; }

 private:
  const lf_session &c_;
};

/* One source's row. */
struct Row {
  View<const float> logits;
  double log_normaliser;
  double sequence_log_prob;
};

/* One position. */
class Step {
 public:
  explicit Step(const lf_step &c) noexcept : c_(c) {}
  Row row(std::uint32_t i) const noexcept {
    const lf_row &r = c_.rows[i];
    return {{r.logits, c_.width}, r.log_normaliser, r.sequence_log_prob};
  }
  View<const std::uint32_t> committed() const noexcept { return {c_.committed, c_.n_committed}; }

 private:
  const lf_step &c_;
};

/* Where the answer goes; the trace is empty if it was not requested. */
struct Out {
  View<float> logits;
  View<double> trace;
};

/* ---------------------------------------------------------------------------------------------------------- the table */

namespace detail {

inline void put(lf_buf &buf, std::string_view s) noexcept {
  const std::size_t fits = s.size() < buf.cap ? s.size() : static_cast<std::size_t>(buf.cap);
  if (fits > 0) std::memcpy(buf.ptr, s.data(), fits);
  buf.len = s.size();
}

inline lf_status fail(lf_error *err, lf_status status, std::string_view message, std::string_view path = {}) noexcept {
  if (err) {
    put(err->message, message);
    put(err->path, path);
  }
  return status;
}

/* Runs `body`; nothing that it throws gets out. */
template <class F>
lf_status guarded(lf_error *err, F &&body) noexcept {
  try {
    body();
    return LF_OK;
  } catch (const Error &e) {
    return fail(err, e.status(), e.what(), e.path());
  } catch (const std::exception &e) {
    return fail(err, LF_E_PANIC, e.what());
  } catch (...) {
    return fail(err, LF_E_PANIC, "an exception that is no std::exception");
  }
}

template <class S, class = void>
struct remembers : std::false_type {};
template <class S>
struct remembers<S, std::void_t<decltype(std::declval<S &>().commit(std::declval<View<const std::uint32_t>>()))>>
    : std::true_type {};

template <class S, class = void>
struct settles : std::false_type {};
template <class S>
struct settles<S, std::void_t<decltype(std::declval<S &>().settle(std::declval<const Step &>(), std::declval<Out &>()))>>
    : std::true_type {};

template <class Strategy>
struct Calls {
  using State = decltype(std::declval<const Strategy &>().start(std::declval<const Session &>()));

  static const Strategy *of(const lf_instance *self) noexcept { return reinterpret_cast<const Strategy *>(self); }
  static State *of(lf_state *self) noexcept { return reinterpret_cast<State *>(self); }
  static Out view(lf_out *out) noexcept { return {{out->logits, out->width}, {out->trace, out->n_trace}}; }

  static lf_status LF_CALL create(const lf_host_v1 *host, lf_str params, lf_instance **out, lf_error *err) noexcept {
    return guarded(err, [&] { *out = reinterpret_cast<lf_instance *>(new Strategy(Params(host, params))); });
  }
  static void LF_CALL destroy(lf_instance *self) noexcept { delete of(self); }
  static lf_status LF_CALL state_new(const lf_instance *self, const lf_session *session, lf_state **out,
                                     lf_error *err) noexcept {
    return guarded(err, [&] { *out = reinterpret_cast<lf_state *>(new State(of(self)->start(Session(*session)))); });
  }
  static void LF_CALL state_free(lf_state *self) noexcept { delete of(self); }
  static lf_status LF_CALL fuse(lf_state *self, const lf_step *step, lf_out *out, lf_error *err) noexcept {
    return guarded(err, [&] {
      Out to = view(out);
      of(self)->fuse(Step(*step), to);
    });
  }
  static lf_status LF_CALL commit(lf_state *self, const std::uint32_t *tokens, std::uint64_t n, lf_error *err) noexcept {
    return guarded(err, [&] { of(self)->commit(View<const std::uint32_t>(tokens, n)); });
  }
  static lf_status LF_CALL rollback(lf_state *self, std::uint64_t n, lf_error *err) noexcept {
    return guarded(err, [&] { of(self)->rollback(n); });
  }
  static lf_status LF_CALL fork(const lf_state *self, lf_state **out, lf_error *err) noexcept {
    return guarded(err, [&] { *out = reinterpret_cast<lf_state *>(new State(*reinterpret_cast<const State *>(self))); });
  }
  static lf_status LF_CALL settle(lf_state *self, const lf_step *lead, lf_out *out, std::uint32_t *settled,
                                  lf_error *err) noexcept {
    return guarded(err, [&] {
      Out to = view(out);
      *settled = of(self)->settle(Step(*lead), to);
    });
  }
};

}  // namespace detail

/* A strategy under its id, which must live for ever: a string literal. */
template <class Strategy>
struct Exported {
  const char *id;

  lf_strategy_v1 table() const noexcept {
    using Calls = detail::Calls<Strategy>;
    using State = typename Calls::State;
    lf_strategy_v1 t{};
    t.struct_size = sizeof t;
    t.id = str(id);
    t.create = Calls::create;
    t.destroy = Calls::destroy;
    t.state_new = Calls::state_new;
    t.state_free = Calls::state_free;
    t.fuse = Calls::fuse;
    if constexpr (detail::remembers<State>::value) {
      static_assert(std::is_copy_constructible_v<State>, "a state with memory is forked by copying it");
      t.commit = Calls::commit;
      t.rollback = Calls::rollback;
      t.state_fork = Calls::fork;
    }
    if constexpr (detail::settles<State>::value) t.settle = Calls::settle;
    return t;
  }
};

namespace detail {

/* The tables of a plugin, made when it is entered first. */
template <class... Strategies>
const lf_plugin_v1 *enter(const lf_host_v1 *host, lf_error *err, lf_str meta, const Strategies &...strategies) noexcept {
  if (!host || host->struct_size < sizeof(lf_host_v1)) {
    fail(err, LF_E_ARGUMENT, "no host of ABI 1");
    return nullptr;
  }
  static const lf_strategy_v1 tables[] = {strategies.table()...};
  static const struct Pointers {
    const lf_strategy_v1 *to[sizeof...(strategies)];
    Pointers() noexcept : to() {
      for (std::size_t i = 0; i < sizeof...(strategies); ++i) to[i] = &tables[i];
    }
  } pointers;
  static const lf_plugin_v1 plugin = {sizeof(lf_plugin_v1), 0, meta, sizeof...(strategies), pointers.to, nullptr};
  return &plugin;
}

}  // namespace detail
}  // namespace lf

#define LF_EXPORT_STRATEGIES(...)                                                                                     \
  const lf_plugin_v1 *LF_CALL lf_plugin_entry_v1(const lf_host_v1 *host, lf_error *err) LF_NOEXCEPT {                 \
    return lf::detail::enter(host, err, {LF_PLUGIN_META, sizeof(LF_PLUGIN_META) - 1}, __VA_ARGS__);                   \
  }                                                                                                                   \
  static_assert(true, "so that a semicolon may follow")

#endif /* LOGITFUSE_PLUGIN_HPP */
