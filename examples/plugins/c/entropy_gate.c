/*
 * Entropy-gated proxy tuning: a large model is steered by what tuning changed in a small one, but only where it is
 * uncertain itself.
 *
 *   H = -sum p log p,  p = softmax(base)
 *   fused = base + alpha * (expert - anti)   where H >= entropy_nats
 *   fused = base                             elsewhere
 *
 * Most tokens of a text are certain: the rest of a word, a closing bracket.  There the small models can only do harm, and
 * need not run at all: `settle` says so before they do.
 *
 * What is worth copying from here: parameters without a JSON parser (lf.config/1), errors that point at a key, roles looked
 * up once, masked ids, and a gate that depends on the base alone, so that `settle` and `fuse` cannot disagree.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "logitfuse_plugin.h"

LF_DEFINE_META({
  "abi": [1, 0],
  "plugin": { "id": "org.logitfuse.example.entropy-gate", "version": "0.1.0", "license": "MIT OR Apache-2.0", "sdk": "c" },
  "strategies": [ {
    "id": "entropy-gate",
    "summary": "proxy tuning where the base is uncertain, the base alone elsewhere",
    "equation": "fused = base + alpha * (expert - anti) where H(base) >= entropy_nats, else base",
    "reference": "proxy tuning (arXiv 2401.08565, eq. 1); the gate is this example's own",
    "roles": [
      { "name": "base", "min": 1, "max": 1, "summary": "the large model" },
      { "name": "expert", "min": 1, "max": 1, "summary": "a small model that was tuned" },
      { "name": "anti", "min": 1, "max": 1, "summary": "the small model before tuning" }
    ],
    "params": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "alpha": { "type": "number", "minimum": -100, "maximum": 100, "default": 1,
                   "description": "The strength of the expert where the gate is open." },
        "entropy_nats": { "type": "number", "minimum": 0, "default": 0.5,
                          "description": "The gate opens at this entropy of the base, in nats." }
      }
    },
    "laws": [ "deterministic", "stateless", "shift-invariant", "vocab-equivariant", "mask-preserving",
              "identity-at: alpha=0" ],
    "trace": [ { "name": "alpha", "unit": "1" }, { "name": "entropy", "unit": "nats" } ],
    "lead": "base",
    "capabilities": [ "settle" ]
  } ]
});

enum { ALPHA, ENTROPY, COLUMNS };

struct lf_instance {
  double alpha, entropy_nats;
};

struct lf_state {
  double alpha, entropy_nats;
  uint32_t base, expert, anti;
};

/* ----------------------------------------------------------------------------------------------- texts and errors */

static lf_str text(const char *s) {
  lf_str t;
  t.ptr = s;
  t.len = strlen(s);
  return t;
}

static void put(lf_buf *buf, const char *s) {
  uint64_t len = strlen(s), fits = len < buf->cap ? len : buf->cap;
  if (fits > 0) memcpy(buf->ptr, s, (size_t)fits);
  buf->len = len;
}

/* `path` is the JSON pointer of a parameter, or "". */
static lf_status fail(lf_error *err, lf_status status, const char *path, const char *message) {
  if (err) {
    put(&err->path, path);
    put(&err->message, message);
  }
  return status;
}

/* ------------------------------------------------------------------------------------------------------- instance */

static lf_status create(const lf_host_v1 *host, lf_str params, lf_instance **out, lf_error *err) {
  const lf_config_v1 *config = host->get_extension(host->ctx, text(LF_EXT_CONFIG));
  lf_instance self = { 1.0, 0.5 }; /* an absent key leaves its default */
  lf_str keys[2];
  lf_status status;
  keys[0] = text("alpha");
  keys[1] = text("entropy_nats");
  if (!config) return fail(err, LF_E_UNSUPPORTED, "", "the host has no " LF_EXT_CONFIG);
  status = config->only_keys(config->ctx, params, text(""), keys, 2, err);
  if (status == LF_OK) status = config->get_f64(config->ctx, params, text("/alpha"), &self.alpha, err);
  if (status == LF_OK) status = config->get_f64(config->ctx, params, text("/entropy_nats"), &self.entropy_nats, err);
  if (status != LF_OK) return status; /* the host has said which key is wrong, and why */
  /* Written so that NaN is refused too. */
  if (!(self.alpha >= -100 && self.alpha <= 100))
    return fail(err, LF_E_CONFIG, "/alpha", "must be between -100 and 100");
  if (!(self.entropy_nats >= 0 && self.entropy_nats <= DBL_MAX))
    return fail(err, LF_E_CONFIG, "/entropy_nats", "must be 0 or more, and finite");
  *out = malloc(sizeof **out);
  if (!*out) return fail(err, LF_E_INTERNAL, "", "out of memory");
  **out = self;
  return LF_OK;
}

static void destroy(lf_instance *self) { free(self); }

/* ---------------------------------------------------------------------------------------------------------- state */

static lf_status find(const lf_session *session, const char *role, uint32_t *row, lf_error *err) {
  uint32_t i, found = 0;
  for (i = 0; i < session->n_rows; i++) {
    lf_str is = session->bindings[i].role;
    if (is.len == strlen(role) && memcmp(is.ptr, role, (size_t)is.len) == 0) {
      *row = i;
      found++;
    }
  }
  return found == 1 ? LF_OK : fail(err, LF_E_INCOMPATIBLE, "", "entropy-gate fuses one base, one expert and one anti");
}

static lf_status state_new(const lf_instance *self, const lf_session *session, lf_state **out, lf_error *err) {
  lf_state state = { self->alpha, self->entropy_nats, 0, 0, 0 };
  lf_status status = find(session, "base", &state.base, err);
  if (status == LF_OK) status = find(session, "expert", &state.expert, err);
  if (status == LF_OK) status = find(session, "anti", &state.anti, err);
  if (status != LF_OK) return status;
  *out = malloc(sizeof **out);
  if (!*out) return fail(err, LF_E_INTERNAL, "", "out of memory");
  **out = state;
  return LF_OK;
}

static void state_free(lf_state *self) { free(self); }

/* --------------------------------------------------------------------------------------------------------- fusing */

/* In nats.  A masked id has probability 0 and adds nothing; 0 * -inf would be NaN. */
static double entropy(const lf_row *row, uint64_t width) {
  double sum = 0.0;
  uint64_t i;
  for (i = 0; i < width; i++) {
    const double log_p = (double)row->logits[i] - row->log_normaliser;
    if (log_p > -700.0) sum -= exp(log_p) * log_p;
  }
  return sum > 0.0 ? sum : 0.0;
}

/* Whether the base decides alone; if so, `out` is done. */
static int gate_is_shut(const lf_state *self, const lf_row *base, lf_out *out) {
  const double uncertainty = entropy(base, out->width);
  const int shut = uncertainty < self->entropy_nats;
  if (shut) memcpy(out->logits, base->logits, (size_t)out->width * sizeof *out->logits);
  if (out->n_trace == COLUMNS) {
    out->trace[ALPHA] = shut ? 0.0 : self->alpha;
    out->trace[ENTROPY] = uncertainty;
  }
  return shut;
}

static lf_status settle(lf_state *self, const lf_step *lead, lf_out *out, uint32_t *settled, lf_error *err) {
  (void)err;
  *settled = (uint32_t)gate_is_shut(self, &lead->rows[0], out);
  return LF_OK;
}

/* To f32; what would leave its range stops at its ends, since a row holds no infinity but that of a mask. */
static float narrow(double x) { return (float)(x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x); }

static lf_status fuse(lf_state *self, const lf_step *step, lf_out *out, lf_error *err) {
  const lf_row *base = &step->rows[self->base];
  const lf_row *expert = &step->rows[self->expert];
  const lf_row *anti = &step->rows[self->anti];
  /* Where a row is masked its log-probability counts as equal to the other's, so that the base decides.  Logits may have
     constants added to them; the log-normalisers know by how much. */
  const double where_masked = expert->log_normaliser - anti->log_normaliser;
  uint64_t i;
  (void)err;
  if (gate_is_shut(self, base, out)) return LF_OK;
  for (i = 0; i < out->width; i++) {
    const float b = base->logits[i], e = expert->logits[i], a = anti->logits[i];
    const double difference = e == -INFINITY || a == -INFINITY ? where_masked : (double)e - (double)a;
    const double shift = self->alpha * difference;
    if (b == -INFINITY || shift == 0.0)
      out->logits[i] = b; /* bit for bit */
    else
      out->logits[i] = narrow((double)b + shift);
  }
  return LF_OK;
}

/* ---------------------------------------------------------------------------------------------------------- table */

static const lf_strategy_v1 entropy_gate = {
  sizeof(lf_strategy_v1), 0, { "entropy-gate", sizeof("entropy-gate") - 1 },
  create, destroy, state_new, state_free, fuse,
  NULL, NULL, NULL, /* no commit: no memory */
  settle,
  NULL /* the metadata hold for all parameters */
};

static const lf_strategy_v1 *const strategies[] = { &entropy_gate };

static const lf_plugin_v1 plugin = {
  sizeof(lf_plugin_v1), 0, { LF_PLUGIN_META, sizeof(LF_PLUGIN_META) - 1 }, 1, strategies, NULL
};

const lf_plugin_v1 *LF_CALL lf_plugin_entry_v1(const lf_host_v1 *host, lf_error *err) LF_NOEXCEPT {
  if (!host) {
    fail(err, LF_E_ARGUMENT, "", "no host");
    return NULL;
  }
  return &plugin;
}
