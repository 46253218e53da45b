// The server: OpenAI's endpoints with the `fusion` extension, streamed.

import { ApiError } from "./errors.js";

const KEY = "logitfuse.key";

export class Api {
  /** `askKey(why)` resolves to a key, or to nothing where the person declines. */
  constructor(base, askKey) {
    this.base = new URL(base, document.baseURI);
    this.askKey = askKey;
    this.asking = null;
    try {
      this.key = sessionStorage.getItem(KEY);
    } catch {
      this.key = null;
    }
  }

  async models(signal) {
    const response = await this.request("models", { signal });
    const { data } = await response.json();
    if (!Array.isArray(data)) throw new ApiError({ message: "the list of models has no `data`" });
    return data;
  }

  /** The chunks of a streamed answer. Ends at `[DONE]`; throws where the stream ends without it. */
  async *stream(path, body, signal) {
    const response = await this.request(path, {
      body: { ...body, stream: true, stream_options: { include_usage: true } },
      signal,
    });
    const cut = () => new ApiError({ kind: "cut", message: "the answer ended before it was complete" });
    const parts = events(response.body);
    try {
      for (;;) {
        const { value, done } = await parts.next().catch((error) => {
          // A connection that breaks looks like this; so does one that we closed.
          throw signal?.aborted ? error : cut();
        });
        if (done) throw cut();
        if (value === "[DONE]") return;
        const chunk = JSON.parse(value);
        if (chunk.error) throw ApiError.of(chunk, { inStream: true });
        yield chunk;
      }
    } finally {
      parts.return();
    }
  }

  async request(path, { body, signal } = {}) {
    for (;;) {
      const used = this.key;
      const headers = { Accept: body ? "text/event-stream" : "application/json" };
      if (used) headers.Authorization = `Bearer ${used}`;
      if (body) headers["Content-Type"] = "application/json";
      let response;
      try {
        response = await fetch(new URL(path, this.base), {
          method: body ? "POST" : "GET",
          headers,
          signal,
          cache: "no-store",
          credentials: "omit",
          body: body && JSON.stringify(body),
        });
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new ApiError({ kind: "network", message: "no answer from the server" });
      }
      if (response.ok) return response;
      const error = await ApiError.from(response);
      if (error.status !== 401) throw error;
      // Columns run at the same time: whoever is refused second waits for the same question, or finds it answered.
      if (
        this.key === used &&
        !(await this.ask(used ? "The server refused this key." : "This server needs an API key."))
      )
        throw error;
      signal?.throwIfAborted();
    }
  }

  ask(why) {
    this.asking ??= this.askKey(why).then((key) => {
      this.asking = null;
      if (!key) return false;
      this.key = key;
      try {
        sessionStorage.setItem(KEY, key);
      } catch {
        // The key then lasts as long as the page.
      }
      return true;
    });
    return this.asking;
  }
}

/** The data of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
