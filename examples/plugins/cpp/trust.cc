/*
 * Proxy tuning whose strength follows how far the expert can be trusted on this very text.
 *
 *   trust = mean over the last `window` committed tokens of  p_expert(token) / (p_expert(token) + p_base(token))
 *   fused = base + 2 * alpha * trust * (expert - anti)
 *
 * An expert that keeps expecting what was then chosen gets up to twice alpha, one that keeps being surprised nearly none.
 * Before the first token the trust is one half.
 *
 * What is worth copying from here: a memory that `rollback` can undo in time proportional to what is undone, a `fuse` that
 * may be repeated because it only remembers what `commit` will need, and exceptions as errors.
 */
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "logitfuse_plugin.hpp"

LF_DEFINE_META({
  "abi": [1, 0],
  "plugin": { "id": "org.logitfuse.example.trust", "version": "0.1.0", "license": "MIT OR Apache-2.0", "sdk": "c++" },
  "strategies": [ {
    "id": "trust",
    "summary": "proxy tuning as strong as the expert has been right on this text",
    "equation": "fused = base + 2 alpha trust (expert - anti), trust = mean of p_expert / (p_expert + p_base) over the last tokens",
    "reference": "proxy tuning (arXiv 2401.08565, eq. 1); the trust is this example's own",
    "roles": [
      { "name": "base", "min": 1, "max": 1, "summary": "the large model" },
      { "name": "expert", "min": 1, "max": 1, "summary": "a small model that was tuned" },
      { "name": "anti", "min": 1, "max": 1, "summary": "the small model before tuning" }
    ],
    "params": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "alpha": { "type": "number", "minimum": -100, "maximum": 100, "default": 1,
                   "description": "The strength at a trust of one half." },
        "window": { "type": "integer", "minimum": 1, "maximum": 4096, "default": 16,
                    "description": "How many of the last tokens count." }
      }
    },
    "laws": [ "deterministic", "shift-invariant", "vocab-equivariant", "mask-preserving", "identity-at: alpha=0" ],
    "trace": [ { "name": "trust", "unit": "1" } ],
    "capabilities": [ "commit", "rollback", "fork" ]
  } ]
});

namespace {

class State {
 public:
  State(double alpha, std::size_t window, const lf::Session &session)
      : alpha_(alpha), window_(window), base_(session.row_of("base")), expert_(session.row_of("expert")),
        anti_(session.row_of("anti")) {}

  void fuse(const lf::Step &step, lf::Out &out) {
    const lf::Row base = step.row(base_), expert = step.row(expert_), anti = step.row(anti_);
    // Kept for the commit that follows; another fuse of this position overwrites it.
    seen_.assign(base.logits.size(), 0.5f);
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      const double of_base = base.logits[i] - base.log_normaliser, of_expert = expert.logits[i] - expert.log_normaliser;
      if (std::isfinite(of_base) && std::isfinite(of_expert))
        seen_[i] = static_cast<float>(1.0 / (1.0 + std::exp(of_base - of_expert)));
      else if (of_base != of_expert)
        seen_[i] = of_expert > of_base ? 1.0f : 0.0f;
    }

    const double strength = 2.0 * alpha_ * trust();
    const double where_masked = expert.log_normaliser - anti.log_normaliser;
    for (std::size_t i = 0; i < out.logits.size(); ++i) {
      const float b = base.logits[i], e = expert.logits[i], a = anti.logits[i];
      const bool masked = e == -INFINITY || a == -INFINITY;
      const double shift = strength * (masked ? where_masked : double{e} - double{a});
      out.logits[i] = b == -INFINITY || shift == 0.0
                          ? b
                          : static_cast<float>(std::clamp(double{b} + shift, double{-FLT_MAX}, double{FLT_MAX}));
    }
    if (!out.trace.empty()) out.trace[0] = trust();
  }

  void commit(lf::View<const std::uint32_t> tokens) {
    for (const std::uint32_t token : tokens) {
      // A token that came without a fuse of its own says nothing about the expert.
      history_.push_back(token < seen_.size() ? double{seen_[token]} : 0.5);
      seen_.clear();
    }
  }

  void rollback(std::uint64_t n) {
    if (n > history_.size()) throw lf::Error(LF_E_STATE, "rollback: more tokens than were committed");
    history_.resize(history_.size() - static_cast<std::size_t>(n));
    seen_.clear();
  }

 private:
  double trust() const {
    const std::size_t n = std::min(window_, history_.size());
    double sum = 0.0;
    for (std::size_t i = history_.size() - n; i < history_.size(); ++i) sum += history_[i];
    return n == 0 ? 0.5 : sum / static_cast<double>(n);
  }

  double alpha_;
  std::size_t window_;
  std::uint32_t base_, expert_, anti_;
  std::vector<float> seen_;      // of every id, if it were chosen now
  std::vector<double> history_;  // of every committed token
};

class Trust {
 public:
  explicit Trust(const lf::Params &params) {
    params.only("alpha", "window");
    alpha_ = params.number_within("/alpha", 1.0, -100.0, 100.0);
    window_ = static_cast<std::size_t>(params.number_within("/window", 16.0, 1.0, 4096.0));
  }
  State start(const lf::Session &session) const { return {alpha_, window_, session}; }

 private:
  double alpha_;
  std::size_t window_;
};

}  // namespace

LF_EXPORT_STRATEGIES(lf::Exported<Trust>{"trust"});
