/*
 * The fusion strategy `{{name}}`: fused = base + alpha * (expert - anti).  A start: change `fuse`, and what the metadata say
 * of it.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "logitfuse_plugin.h"

/* JSON, written as it is; read by logitfuse without running the library.  `laws` are promises that `logitfuse plugin check`
   holds the strategy to: remove those that your rule does not keep. */
LF_DEFINE_META({
  "abi": [1, 0],
  "plugin": { "id": "{{name}}", "version": "0.1.0", "license": "MIT OR Apache-2.0", "sdk": "c" },
  "strategies": [ {
    "id": "{{name}}",
    "summary": "adds to a large model what tuning changed in a small one",
    "equation": "fused = base + alpha * (expert - anti)",
    "roles": [
      { "name": "base", "min": 1, "max": 1, "summary": "the large model" },
      { "name": "expert", "min": 1, "max": 1, "summary": "a small model that was tuned" },
      { "name": "anti", "min": 1, "max": 1, "summary": "the small model before tuning" }
    ],
    "params": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "alpha": { "type": "number", "minimum": -100, "maximum": 100, "default": 1,
                   "description": "The strength of the expert; 0 is the base alone." }
      }
    },
    "laws": [ "deterministic", "stateless", "shift-invariant", "vocab-equivariant", "mask-preserving", "identity-at: alpha=0" ],
    "trace": [ { "name": "alpha", "unit": "1" } ],
    "capabilities": []
  } ]
});

/* The strategy with its parameters: immutable, shared between threads. */
struct lf_instance {
  double alpha;
};

/* What one sequence needs: this rule remembers nothing, and only looks its rows up. */
struct lf_state {
  double alpha;
  uint64_t width;
  uint32_t base, expert, anti;
};

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

/* Fails with a message; `path` is the JSON pointer of a parameter, or "". */
static lf_status fail(lf_error *err, lf_status status, const char *path, const char *message) {
  if (err) {
    put(&err->path, path);
    put(&err->message, message);
  }
  return status;
}

static lf_status create(const lf_host_v1 *host, lf_str params, lf_instance **out, lf_error *err) {
  const lf_config_v1 *config = host->get_extension(host->ctx, text(LF_EXT_CONFIG));
  lf_instance self = { 1.0 }; /* what is absent keeps its default */
  lf_str keys[1];
  lf_status status;
  keys[0] = text("alpha");
  if (!config) return fail(err, LF_E_UNSUPPORTED, "", "the host has no " LF_EXT_CONFIG);
  status = config->only_keys(config->ctx, params, text(""), keys, 1, err);
  if (status != LF_OK) return status;
  status = config->get_f64(config->ctx, params, text("/alpha"), &self.alpha, err);
  if (status != LF_OK) return status;
  if (!(self.alpha >= -100 && self.alpha <= 100))
    return fail(err, LF_E_CONFIG, "/alpha", "must be between -100 and 100");
  *out = malloc(sizeof **out);
  if (!*out) return fail(err, LF_E_INTERNAL, "", "out of memory");
  **out = self;
  return LF_OK;
}

static void destroy(lf_instance *self) { free(self); }

/* The one row that plays `role`. */
static lf_status find(const lf_session *session, const char *role, uint32_t *row, lf_error *err) {
  uint32_t i, found = 0;
  for (i = 0; i < session->n_rows; i++) {
    lf_str is = session->bindings[i].role;
    if (is.len == strlen(role) && memcmp(is.ptr, role, (size_t)is.len) == 0) {
      *row = i;
      found++;
    }
  }
  return found == 1 ? LF_OK : fail(err, LF_E_INCOMPATIBLE, "", "one base, one expert and one anti are fused");
}

static lf_status state_new(const lf_instance *self, const lf_session *session, lf_state **out, lf_error *err) {
  lf_state state = { self->alpha, session->width, 0, 0, 0 };
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
  if (step->width != self->width || out->width != self->width)
    return fail(err, LF_E_ARGUMENT, "", "rows of another length than the session's");
  for (i = 0; i < step->width; i++) {
    const float b = base->logits[i], e = expert->logits[i], a = anti->logits[i];
    double difference = e == -INFINITY || a == -INFINITY ? where_masked : (double)e - (double)a;
    double shift = self->alpha * difference;
    if (b == -INFINITY || shift == 0.0)
      out->logits[i] = b; /* bit for bit */
    else
      out->logits[i] = narrow((double)b + shift);
  }
  if (out->n_trace > 0) out->trace[0] = self->alpha;
  return LF_OK;
}

/* No commit: the strategy has no memory, so the host neither commits nor rolls back, and forks by state_new. */
static const lf_strategy_v1 strategy = {
  sizeof(lf_strategy_v1), 0, { "{{name}}", sizeof("{{name}}") - 1 },
  create, destroy, state_new, state_free, fuse,
  NULL, NULL, NULL, NULL, NULL
};

static const lf_strategy_v1 *const strategies[] = { &strategy };

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
