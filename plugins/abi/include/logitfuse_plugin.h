/*
 * logitfuse_plugin.h: fusion strategies for logitfuse, in any language that can export two C symbols.  ABI 1.0.
 *
 * SPDX-License-Identifier: MIT-0 OR MIT OR Apache-2.0
 * Copy this file into your project; it needs nothing but <stdint.h>.  It is the specification: what it does not promise
 * is not promised.
 *
 * WHAT A PLUGIN IS
 *   A shared library that computes, for every token to be generated, one row of logits out of several: those of a large
 *   model, of a small tuned one, of the same model with another prompt.  The host runs the models, hands over their rows,
 *   checks what comes back, samples, and tells the plugin which token was chosen.
 *
 * OBJECTS
 *   plugin    what the library exports: lf_plugin_v1, a constant table.  Libraries are never unloaded.
 *   instance  a strategy with parsed parameters: lf_instance.  Immutable once created, shared by all threads.
 *   state     what varies with one sequence of tokens: lf_state.  Used by one thread at a time.
 *   An instance outlives its states: the host frees every state of an instance before it destroys the instance.
 *
 * A SEQUENCE
 *   state_new; once, if the plugin has lf.prompt/1: begin, at the end of the prompt; then for every position:  fuse (any
 *   number of times), commit (the token that was chosen).  rollback undoes the last commits; state_fork copies a state.  So
 *   the host can speculate, search and test.
 *
 * THREADS
 *   [any]     may be called from any thread, also at the same time as every other call.
 *   [state]   any thread, but one call at a time for this state; calls on other states run at the same time.
 *   [once]    any thread, once, when no other call uses the object.
 *
 * MEMORY
 *   Who creates an object frees it, by its own function.  Whatever a pointer argument points to is borrowed until the call
 *   returns, unless said otherwise here; a plugin copies what it wants to keep.  Buffers for results belong to the caller.
 *   Rows, tokens and numbers are aligned as their C types want, and no more.
 *
 * ERRORS
 *   Calls that can fail return an lf_status.  On anything but LF_OK no object was made, out-parameters hold no meaning, and
 *   nothing needs freeing.  The caller passes an lf_error with buffers; fill `message` in, as one line that starts with the
 *   value it is about.  Text is UTF-8; the host removes control characters before it prints.
 *
 * VERSIONS
 *   The major number is part of the entry's name.  Within a major, structs grow at their end only.  A struct that may grow
 *   begins with `struct_size`, which its maker sets to its own sizeof.  A reader touches a member only if
 *   offset + size of the member <= struct_size; a member beyond is absent and means what NULL or 0 means.  Structs
 *   marked "frozen" never change in this major: they are elements of arrays.  An optional function that a plugin does not
 *   have is NULL.  Whatever is not ready to be promised is an extension, found by name; see get_extension.
 *
 * NUMBERS
 *   Logits are natural logarithms up to a constant; divergences are in nats.  A row holds finite values or -inf (that token
 *   is masked), one finite value at least; never NaN or +inf.  This holds for rows in, and is checked for rows out.  Beware
 *   of -inf - (-inf), which is NaN: where either row of a difference is masked, take the difference to be 0.
 *
 * FORBIDDEN
 *   Letting an exception, a panic or a longjmp leave a function of the interface.  exit, abort, signal handlers.  Leaving the rounding mode,
 *   flush-to-zero, locale, environment or working directory changed.  Writing to stdout.  Keeping borrowed pointers.
 *   Results that depend on time, addresses, threads or unseeded randomness.  Linking or loading ONNX Runtime.
 *   Threads of your own, unless the metadata's capabilities say "threads".
 *   `logitfuse plugin check FILE` tries to find all of these.
 */
#ifndef LOGITFUSE_PLUGIN_H
#define LOGITFUSE_PLUGIN_H

#include <stdint.h>

#if defined(__cplusplus) && __cplusplus >= 201703L
#define LF_NOEXCEPT noexcept /* then a function that may throw does not convert to these pointers */
#else
#define LF_NOEXCEPT
#endif

#if defined(_WIN32)
#define LF_CALL __cdecl
#define LF_EXPORT __declspec(dllexport)
#else
#define LF_CALL
#define LF_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LF_ABI_MAJOR 1u
#define LF_ABI_MINOR 0u

/* ---------------------------------------------------------------------------------------------------- statuses */

/* Not a C enum, whose width is not portable.  What is not listed here counts as LF_E_INTERNAL. */
typedef int32_t lf_status;

#define LF_OK 0
#define LF_E_ARGUMENT 1     /* the call breaks this specification: a null pointer, a wrong length */
#define LF_E_CONFIG 2       /* a parameter is wrong; err->path says which */
#define LF_E_INCOMPATIBLE 3 /* parameters and session do not fit together: roles, numbers of sources */
#define LF_E_UNSUPPORTED 4  /* valid, and not possible here */
#define LF_E_STATE 5        /* a verb came at the wrong time: more tokens rolled back than were committed */
#define LF_E_NUMERIC 6      /* no row can be computed from these rows */
#define LF_E_CANCELLED 7    /* the call was cancelled */
#define LF_E_IO 8           /* a file, a device or another library failed */
#define LF_E_INTERNAL 9     /* a bug of the plugin */
#define LF_E_PANIC 10       /* the plugin caught a panic or an exception of its own: the object is poisoned, and the host calls
                               nothing on it but the function that frees it */

/* ------------------------------------------------------------------------------------------------ text and errors */

/* UTF-8, not terminated.  Frozen. */
typedef struct lf_str {
  const char *ptr; /* may be NULL if len is 0 */
  uint64_t len;    /* bytes */
} lf_str;

/* Where to write text.  The callee writes at most `cap` bytes to `ptr` and sets `len` to the number of bytes that the
   whole text has, so that the caller sees what was cut off.  Cut between characters.  Frozen. */
typedef struct lf_buf {
  char *ptr; /* may be NULL if cap is 0 */
  uint64_t cap;
  uint64_t len; /* the caller presets 0 */
} lf_buf;

/* Filled in by who fails.  Made by the caller; `err` itself may be NULL if the caller does not care. */
typedef struct lf_error {
  uint32_t struct_size;
  uint32_t reserved;
  lf_buf message; /* one line, no period: what is wrong, with the allowed range */
  lf_buf path;    /* LF_E_CONFIG: the JSON pointer (RFC 6901) of the parameter, such as /weights/1; empty: all of them.
                     The message does not repeat it */
  lf_buf help;    /* one line that says what to do about it; may stay empty */
} lf_error;

/* ---------------------------------------------------------------------------------------------------------- host */

/* Levels of log messages. */
#define LF_LOG_ERROR 1u
#define LF_LOG_WARN 2u
#define LF_LOG_INFO 3u
#define LF_LOG_DEBUG 4u
#define LF_LOG_TRACE 5u

/* What the host offers.  Valid for the rest of the process, so a plugin may keep the pointer.  No member is NULL. */
typedef struct lf_host_v1 {
  uint32_t struct_size;
  uint32_t abi_minor; /* the newest minor that the host knows */
  void *ctx;          /* the first argument of the functions below */
  /* [any] A line for the log.  The host filters by level, limits the rate and removes control characters. */
  void(LF_CALL *log)(void *ctx, uint32_t level, lf_str message) LF_NOEXCEPT;
  /* [any] A struct of functions by its name, such as LF_EXT_CONFIG; NULL if the host does not have it.  Valid for the
     rest of the process. */
  const void *(LF_CALL *get_extension)(void *ctx, lf_str name)LF_NOEXCEPT;
} lf_host_v1;

/* ------------------------------------------------------------------------------------------------------- session */

/* One row of every step: which role it plays and which source yields it.  Frozen. */
typedef struct lf_binding {
  lf_str role;   /* "base", "expert", ...: a name of the metadata's roles */
  lf_str source; /* the source's name in the experiment */
} lf_binding;

/* What is known before the first step and stays so for a whole run. */
typedef struct lf_session {
  uint32_t struct_size;
  uint32_t n_rows;            /* rows of every step, one per binding */
  const lf_binding *bindings; /* grouped by role, in the order of the metadata's roles */
  uint64_t width;             /* the length of every row: the number of token ids */
  const uint32_t *masked;     /* ids below `width` that not every source defines, ascending; may be NULL if there is none.
                                 They are -inf in every row, so most strategies need not look */
  uint64_t n_masked;
} lf_session;

/* ---------------------------------------------------------------------------------------------------------- step */

/* What one source says of the next token.  Frozen: what a later minor adds per row becomes an array in lf_step. */
typedef struct lf_row {
  const float *logits;      /* lf_step.width values */
  double log_normaliser;    /* log(sum(exp(logits))) in nats: logits[i] - log_normaliser is token i's log-probability */
  double sequence_log_prob; /* nats; log-probability of the committed tokens under this source, prompt excluded */
} lf_row;

/* One position. */
typedef struct lf_step {
  uint32_t struct_size;
  uint32_t n_rows;
  const lf_row *rows;        /* in the order of lf_session.bindings */
  uint64_t width;            /* that of the session */
  const uint32_t *committed; /* tokens generated so far, prompt excluded (prompts may differ per source); may be NULL if
                                n_committed is 0 */
  uint64_t n_committed;
} lf_step;

/* Where the answer goes.  Neither array overlaps any row of the step. */
typedef struct lf_out {
  uint32_t struct_size;
  uint32_t n_trace; /* the number of the metadata's trace columns, or 0 if they were not requested: spare their cost then.  The
                       logits must not depend on it */
  float *logits;    /* write all `width` values, unnormalised; initialised, with anything */
  uint64_t width;
  double *trace; /* preset to NaN, which means "not available at this step"; may be NULL if n_trace is 0 */
} lf_out;

/* ------------------------------------------------------------------------------------------------------ strategy */

/* Yours to define; the host only passes pointers around. */
typedef struct lf_instance lf_instance;
typedef struct lf_state lf_state;

typedef struct lf_strategy_v1 {
  uint32_t struct_size;
  uint32_t reserved;
  lf_str id; /* kebab-case; that of the metadata */

  /* [any] Makes an instance from parameters: a JSON object as text.  The host has checked it against the metadata's schema
     as far as it understands it; check all the same.  `host` is the one that the entry was given. */
  lf_status(LF_CALL *create)(const lf_host_v1 *host, lf_str params, lf_instance **out, lf_error *err) LF_NOEXCEPT;
  /* [once] All states are gone.  NULL is ignored. */
  void(LF_CALL *destroy)(lf_instance *self) LF_NOEXCEPT;

  /* [any] A fresh state for one sequence.  Refuses what it cannot fuse with LF_E_INCOMPATIBLE. */
  lf_status(LF_CALL *state_new)(const lf_instance *self, const lf_session *session, lf_state **out,
                                lf_error *err) LF_NOEXCEPT;
  /* [once] NULL is ignored. */
  void(LF_CALL *state_free)(lf_state *self) LF_NOEXCEPT;

  /* [state] Fuses the rows of the next position.  No committed side effect: called again before a commit, with the same
     step it writes the same bits, with another step what that step asks for. */
  lf_status(LF_CALL *fuse)(lf_state *self, const lf_step *step, lf_out *out, lf_error *err) LF_NOEXCEPT;

  /* From here on everything is optional: NULL means what is said behind it. */

  /* [state] These tokens are final; a state may learn from what the last fuse or settle since the last commit or rollback saw.
     There may be several tokens, and there may have been no fuse, as for the given beginning of a text that is resumed.
     NULL: the strategy has no memory, and the host neither commits nor rolls back, and forks by state_new. */
  lf_status(LF_CALL *commit)(lf_state *self, const uint32_t *tokens, uint64_t n, lf_error *err) LF_NOEXCEPT;
  /* [state] Undoes the last n committed tokens: what follows is as if they had never been committed.  Forgets a fuse that no
     commit followed, too; with n 0, only that.  LF_E_STATE if there were fewer.  NULL beside a commit: the host refuses what
     needs it. */
  lf_status(LF_CALL *rollback)(lf_state *self, uint64_t n, lf_error *err) LF_NOEXCEPT;
  /* [state] An independent copy: equal calls give equal bits from here on, and neither disturbs the other.  NULL beside a
     commit: the host refuses what needs it. */
  lf_status(LF_CALL *state_fork)(const lf_state *self, lf_state **out, lf_error *err) LF_NOEXCEPT;

  /* [state] For strategies whose metadata name a `lead`: offers the row of that role before any other source has run, as a
     step of one row.  Set *settled to 1 if no other row is needed and `out` holds what fuse would have written; to 0 if all
     rows are needed, and `out` is ignored.  No committed side effect.  NULL: never settled. */
  lf_status(LF_CALL *settle)(lf_state *self, const lf_step *lead, lf_out *out, uint32_t *settled,
                             lf_error *err) LF_NOEXCEPT;

  /* [any] The element of the metadata's `strategies` for this very instance, as JSON: roles, laws and equation may depend on
     parameters.  Call with cap 0 to learn the length.  NULL: what the metadata say holds for all parameters. */
  lf_status(LF_CALL *describe)(const lf_instance *self, lf_buf *json, lf_error *err) LF_NOEXCEPT;
} lf_strategy_v1;

/* -------------------------------------------------------------------------------------------------------- plugin */

/* What the entry returns.  Constant, and valid for the rest of the process. */
typedef struct lf_plugin_v1 {
  uint32_t struct_size;
  uint32_t abi_minor; /* the oldest minor that the plugin can do with; a host that is older refuses it */
  lf_str meta;        /* LF_PLUGIN_META without the NULs at its end */
  uint64_t n_strategies;
  const lf_strategy_v1 *const *strategies; /* in the order of the metadata */
  /* [any] A struct of functions by its name, such as LF_EXT_BATCH; NULL if the plugin does not have it.  Valid for the rest
     of the process.  A NULL member: no extensions. */
  const void *(LF_CALL *get_extension)(lf_str name)LF_NOEXCEPT;
} lf_plugin_v1;

/* The only two symbols that a plugin exports. */

/*
 * The metadata: "LFMETA01", then one JSON object in UTF-8, then one NUL or more, in the section .lfmeta (Mach-O:
 * __DATA,__lfmeta).  It holds no pointers, so the host reads it from the file, without running any code of the plugin.
 *
 *   { "abi": [1, 0],                              major, and the oldest minor that the plugin can do with
 *     "plugin": { "id": "org.example.mean",       required, as is version; the others may be left out
 *                 "version": "0.1.0", "license": "MIT", "url": "...", "sdk": "c" },
 *     "strategies": [ {
 *       "id": "mean",                             kebab-case; required, as are the roles
 *       "summary": "...",                         one line: what it is good for
 *       "equation": "...",                        plain text, one or a few lines
 *       "reference": "...",                       papers, with equation or section
 *       "roles": [ { "name": "base", "min": 1, "max": 1, "summary": "..." } ],     max null: no limit; also "aliases", a
 *                                                                                list of other names
 *       "params": { "type": "object", "additionalProperties": false, ... },        JSON Schema, draft 2020-12; may
 *                                                                                be left out: no parameters
 *       "laws": [ "deterministic", "shift-invariant", ... ],                       what `plugin check` holds it to
 *       "trace": [ { "name": "alpha", "unit": "1" } ],                             columns of lf_out.trace
 *       "lead": "base",                           see settle; null or left out: none
 *       "prompt": "end",                          how much of every prompt it is told, see lf.prompt/1: "end" (also if left
 *                                                 out), "log_probs" or "rows"
 *       "calibration": { "role": "expert",        the prompts that lf.calibration/1 wants; null or left out: none
 *                        "rows_of": [ "anti" ], "prompts": 32, "required": false },
 *       "capabilities": [ "commit", "rollback", "fork", "settle", "describe",      the optional functions that are
 *                         "begin", "read_prompt", "calibrate" ]                    there; and "threads", if it starts some
 *     } ] }
 *
 * Unknown members are ignored, so that later minors can add some.
 */
LF_EXPORT extern const char LF_PLUGIN_META[];

/* [any] Called once a process, or more often.  `host` stays valid for ever.  NULL: refused, with the reason in `err`. */
LF_EXPORT const lf_plugin_v1 *LF_CALL lf_plugin_entry_v1(const lf_host_v1 *host, lf_error *err) LF_NOEXCEPT;

/*
 * For plugins in C and C++: LF_DEFINE_META({ "abi": [1, 0], ... }) at file scope defines LF_PLUGIN_META from JSON that is
 * written as it is.  The preprocessor turns it into a string, so it cannot hold a lone apostrophe outside of strings, and a
 * strict C99 compiler wants less than 4095 bytes.
 */
#if defined(__APPLE__)
#define LF_META_SECTION __attribute__((section("__DATA,__lfmeta"), used))
#elif defined(_MSC_VER)
#pragma section(".lfmeta", read)
#define LF_META_SECTION __declspec(allocate(".lfmeta"))
#else
#define LF_META_SECTION __attribute__((section(".lfmeta"), used))
#endif
#define LF_DEFINE_META(...) LF_META_SECTION const char LF_PLUGIN_META[] = "LFMETA01" #__VA_ARGS__

/* ---------------------------------------------------------------------------------------------------- extensions */

/*
 * An extension is a struct, found by a name that ends in its revision.  A draft keeps its name when it becomes stable; until
 * then it may vanish, so ask for it and do without it.
 * Functions of an extension of the plugin are called for those of its strategies whose capabilities name them.  Where an
 * argument `strategy` says which, it is the very pointer that lf_plugin_v1.strategies holds.
 * Reserved: lf.batch/1, lf.calibration/1, lf.config/1, lf.device/1, lf.metrics/1, lf.prompt/1, lf.state-io/1.
 */

/*
 * Of the host, stable: typed values out of the parameters, for languages without a JSON parser at hand.  `params` is the text
 * that create was given, `pointer` a JSON pointer into it.  [any]
 *
 * A value that is absent leaves *out as it is, with LF_OK: preset it to its default.  A value of the wrong type is
 * LF_E_CONFIG, with a message and a path that create may simply hand on.
 */
#define LF_EXT_CONFIG "lf.config/1"
typedef struct lf_config_v1 {
  uint32_t struct_size;
  uint32_t reserved;
  void *ctx; /* the first argument of the functions below */
  lf_status(LF_CALL *get_f64)(void *ctx, lf_str params, lf_str pointer, double *out, lf_error *err) LF_NOEXCEPT;
  lf_status(LF_CALL *get_i64)(void *ctx, lf_str params, lf_str pointer, int64_t *out, lf_error *err) LF_NOEXCEPT;
  /* 0 or 1 */
  lf_status(LF_CALL *get_bool)(void *ctx, lf_str params, lf_str pointer, uint32_t *out, lf_error *err) LF_NOEXCEPT;
  lf_status(LF_CALL *get_str)(void *ctx, lf_str params, lf_str pointer, lf_buf *out, lf_error *err) LF_NOEXCEPT;
  /* The number of elements of an array, or of members of an object. */
  lf_status(LF_CALL *count)(void *ctx, lf_str params, lf_str pointer, uint64_t *out, lf_error *err) LF_NOEXCEPT;
  /* Refuses an object that has a member with none of these names, so that a misspelt key is no silent default. */
  lf_status(LF_CALL *only_keys)(void *ctx, lf_str params, lf_str pointer, const lf_str *names, uint64_t n_names,
                                lf_error *err) LF_NOEXCEPT;
} lf_config_v1;

/*
 * Of the plugin, DRAFT: one call for several states of one strategy at the same time, for strategies that can do better than
 * one after the other.  Same results as n calls of fuse, bit for bit.  statuses[i] and errs[i] belong to states[i]; returns
 * LF_OK if every status is.  [state], for every state.
 */
#define LF_EXT_BATCH "lf.batch/1"
typedef struct lf_batch_v1 {
  uint32_t struct_size;
  uint32_t reserved;
  lf_status(LF_CALL *fuse)(uint64_t n, lf_state *const *states, const lf_step *const *steps, lf_out *const *outs,
                           lf_status *statuses, lf_error *const *errs) LF_NOEXCEPT;
} lf_batch_v1;

/*
 * Of the plugin, stable: what a state is told of the prompt, before anything is fused or committed.  How much is said by
 * `prompt` in the metadata, or by describe:
 *
 *   "end"        begin, with the rows of the first position to generate and no scores.  Costs nothing.
 *   "log_probs"  begin, with how probable the prompt was under the source of every row.  The host then computes the logits of
 *                every position of the prompt, and shares no beginnings between prompts.
 *   "rows"       the same, and before it read_prompt for every position; all sources must have the same prompt.
 *
 * A host that does not know this extension calls neither; a strategy that cannot do without them fails in fuse then.
 */
#define LF_EXT_PROMPT "lf.prompt/1"

/* How probable a prompt was under the source of one row.  The first token, which nothing predicts, does not count, nor do
   tokens that are masked.  Frozen. */
typedef struct lf_prompt_score {
  double log_prob; /* nats; the sum over the tokens that count */
  uint64_t tokens; /* how many count; 0 if the prompt has none to score */
} lf_prompt_score;

typedef struct lf_prompt_v1 {
  uint32_t struct_size;
  uint32_t reserved;
  /* [state] Required.  The prompt is over; `step` is the first position to generate, with nothing committed.  Called once,
     before every fuse, settle and commit.  What the state learns here no rollback undoes, and a fork has it too.  n_scores is
     n_rows of the session, in the order of its bindings, or 0 with "end".  A strategy that has it has a memory: without a
     state_fork, the host refuses what needs copies of its states. */
  lf_status(LF_CALL *begin)(const lf_strategy_v1 *strategy, lf_state *self, const lf_step *step,
                            const lf_prompt_score *scores, uint64_t n_scores, lf_error *err) LF_NOEXCEPT;
  /* [state] The rows of one position within the prompt, and the token of the prompt that follows there.  Called in order,
     before begin, with "rows" only.  Positions before a masked token are left out.  NULL: "rows" is not possible. */
  lf_status(LF_CALL *read_prompt)(const lf_strategy_v1 *strategy, lf_state *self, const lf_step *step, uint32_t next,
                                  lf_error *err) LF_NOEXCEPT;
} lf_prompt_v1;

/*
 * Of the plugin, stable: a strategy that is fitted to its sources by unlabelled prompts, once, before the first state.
 * `calibration` in the metadata, or in describe, says which:
 *
 *   role      the role whose sources bring prompts of their kind, each its own
 *   rows_of   the roles whose rows after these prompts are wanted; the other sources do not run
 *   prompts   how many prompts of each source are used at most, 1 or more
 *   required  whether the strategy cannot run without; if false, a user may leave them out, and nothing is called
 */
#define LF_EXT_CALIBRATION "lf.calibration/1"

/* The row at the end of one calibration prompt under one binding.  Frozen. */
typedef struct lf_calibration_row {
  uint32_t prompt;       /* from 0; rows come prompt by prompt */
  uint32_t binding;      /* a place in lf_session.bindings */
  const float *logits;   /* lf_session.width values */
  double log_normaliser; /* as in lf_row */
} lf_calibration_row;

/* What a calibration call is answered with.  Valid until the next call, or until calibrate returns. */
typedef struct lf_calibration_rows {
  uint32_t struct_size;
  uint32_t n_prompts; /* 1 or more */
  const lf_calibration_row *rows;
  uint64_t n_rows;
} lf_calibration_rows;

/* The sources, for the length of one call of calibrate and on its thread. */
typedef struct lf_calibration_source {
  uint32_t struct_size;
  uint32_t reserved;
  void *ctx; /* the first argument of rows_after */
  /* Runs the prompts of one binding of the calibration's role.  Takes as long as models take.  If it fails, calibrate returns
     the same status; the host knows the reason. */
  lf_status(LF_CALL *rows_after)(void *ctx, uint32_t binding, lf_calibration_rows *out, lf_error *err) LF_NOEXCEPT;
} lf_calibration_source;

typedef struct lf_calibration_v1 {
  uint32_t struct_size;
  uint32_t reserved;
  /* [any] Makes a fitted instance, which the host then uses instead and destroys like any other; `self` stays as it is.  The
     fitted instance has the same roles and lead, and may have more trace columns; its describe says `calibration` null.
     Without describe, it is as the metadata say. */
  lf_status(LF_CALL *calibrate)(const lf_strategy_v1 *strategy, const lf_instance *self, const lf_session *session,
                                const lf_calibration_source *source, lf_instance **out, lf_error *err) LF_NOEXCEPT;
} lf_calibration_v1;

#ifdef __cplusplus
}
#endif
#endif /* LOGITFUSE_PLUGIN_H */
