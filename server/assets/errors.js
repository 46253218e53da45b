// What went wrong, in words, and what helps.

export class ApiError extends Error {
  constructor({ status = 0, kind = "", message, param = null, retryAfter = null, inStream = false }) {
    super(message);
    Object.assign(this, { status, kind, param, retryAfter, inStream });
  }

  static of(body, more) {
    const { message = "no reason was given", type = "", param = null } = body?.error ?? {};
    return new ApiError({ kind: type, message: String(message), param, ...more });
  }

  static async from(response) {
    const text = await response.text().catch(() => "");
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      // A proxy's page rather than the server's answer.
      body = { error: { message: response.statusText || "no reason was given" } };
    }
    const seconds = Number(response.headers.get("Retry-After"));
    return ApiError.of(body, { status: response.status, retryAfter: seconds > 0 ? seconds : null });
  }
}

/** `[what went wrong, what helps]`. */
export function explain(error) {
  if (!(error instanceof ApiError))
    return ["The answer could not be read", `${error.message}. Reload the page; it may be older than the server.`];
  const { status, message, param, retryAfter, kind, inStream } = error;
  const said = message.replace(/\.$/, "");
  if (kind === "network")
    return ["No answer from the server", "Check that logitfuse serve is running and reachable, then run again."];
  if (kind === "cut")
    return ["The stream ended early", "The text above is incomplete. The server's log says why; run again."];
  if (inStream)
    return [`The server stopped: ${said}`, "The text above is incomplete. The server's log says more; run again."];
  const where = param ? ` (${param})` : "";
  switch (status) {
    case 401:
      return [
        `The API key is missing or wrong: ${said}`,
        "Run again and enter the key that the server was started with.",
      ];
    case 403:
      return [`Not allowed: ${said}`, "Use a key with access to this model."];
    case 404:
      return [`Not found: ${said}`, "Reload the page to get the current list of models."];
    case 413:
      return [`The request is too large: ${said}`, "Shorten the prompt."];
    case 429:
      return [
        `The server is busy: ${said}`,
        retryAfter ? `Wait ${retryAfter} s, then run again.` : "Wait a moment, then run again.",
      ];
    case 503:
      return [
        `The server does not take requests now: ${said}`,
        retryAfter ? `Try again in ${retryAfter} s.` : "Try again when it is back.",
      ];
    default:
      return status >= 500
        ? [`The server failed: ${said}`, "Its log says more. Run again; if it fails again, report it."]
        : [
            `The request was refused${where}: ${said}`,
            param ? "Change this value and run again." : "Change the request and run again.",
          ];
  }
}
