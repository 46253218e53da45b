// What tokens are shaded by: agreement of the sources, log-probability, or a column of the trace.

/** Shades that style sheets know, `data-s` 0 to 6. */
const SHADES = 7;

/** How the top tokens of base and experts compare with the token that was taken; the same words and order as in reports. */
export const AGREEMENT = [
  "all agree",
  "base's top token",
  "an expert's top token",
  "against both",
  "neither's top token",
];

const isExpert = (role) => role !== "base" && role !== "fused" && !role.startsWith("anti");

/** The place in `AGREEMENT`; none where a token has no base or no expert with top tokens. */
export function agreement(token) {
  const sources = token.sources ?? {};
  const base = sources.base?.[0]?.id;
  const experts = Object.keys(sources)
    .filter(isExpert)
    .map((role) => sources[role]?.[0]?.id)
    .filter((id) => id !== undefined);
  if (base === undefined || !experts.length) return null;
  const [all, byBase, byExpert, against, neither] = AGREEMENT.keys();
  if (base === token.id) return experts.every((id) => id === base) ? all : byBase;
  if (experts.includes(token.id)) return byExpert;
  return experts.every((id) => id === base) ? against : neither;
}

/** A name of a trace's column as the field writes it: `kl_fused_base` is KL(fused‖base). */
export function traceName(column) {
  const [, p, q] = /^kl_([a-z0-9]+)_([a-z0-9]+)$/.exec(column) ?? [];
  return p ? `KL(${p}‖${q})` : column.replaceAll("_", " ");
}

/** A column is a name, or a name with its unit. */
export const columnName = (column) => (typeof column === "string" ? column : column.name);
const unitOf = (column) =>
  (typeof column === "string"
    ? /^kl_|_nats$|^disagreement$/.test(column)
      ? "nats"
      : ""
    : (column.unit ?? "")
  ).replace(/^1$/, "");
export { unitOf };

/** All measures that models with these traces have. */
export function measures(columns) {
  const traces = new Map(columns.map((column) => [columnName(column), unitOf(column)]));
  return [
    { id: "agreement", label: "agreement with the sources", of: agreement },
    { id: "logprob", label: "log-probability", unit: "nats", fixed: [0, 6], of: (token) => -token.logprob, sign: -1 },
    ...[...traces].map(([name, unit]) => ({
      id: `trace.${name}`,
      label: traceName(name),
      unit,
      least: name === "alpha" ? 1 : 0,
      of: (token) => token.trace?.[name],
    })),
  ];
}

/** A round number not below this one. */
function roundUp(value) {
  if (!(value > 0)) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 5, 7.5, 10].find((factor) => factor * power >= value * (1 - 1e-9)) * power;
}

/** The values between which shades lie: fixed, or growing by round numbers so that shades seldom change. */
export class Scale {
  constructor({ fixed, least = 0 } = {}) {
    this.fixed = Boolean(fixed);
    [this.low, this.high] = fixed ?? [0, least];
  }

  /** Takes in a value; whether the ends moved. */
  include(value) {
    if (this.fixed || !Number.isFinite(value) || (value >= this.low && value <= this.high)) return false;
    if (value > this.high) this.high = roundUp(value);
    else this.low = -roundUp(-value);
    return true;
  }

  /** From 0 to 1; none for what is no number. */
  place(value) {
    if (!Number.isFinite(value)) return null;
    const width = this.high - this.low;
    return width > 0 ? Math.min(1, Math.max(0, (value - this.low) / width)) : 0;
  }

  shade(value) {
    const place = this.place(value);
    return place === null ? null : Math.round(place * (SHADES - 1));
  }
}
