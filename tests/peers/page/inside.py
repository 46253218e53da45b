"""What runs inside the page during a check, and what reads what the server sent."""

from __future__ import annotations

import json

# Every column: its model, its text, how many tokens, the error that it shows.
COLUMNS = """[...document.querySelectorAll('.column')].map((c) => ({
    model: c.querySelector('h3').textContent,
    text: c.querySelector('.ribbon').textContent,
    tokens: c.querySelectorAll('.ribbon .t').length,
    error: c.querySelector('.error').hidden ? '' : c.querySelector('.error').textContent,
}))"""

# The requests since the last run, with the raw answers.
CAPTURED = """async () => Promise.all(captured.map(async ({ request, raw }) => [request, await raw]))"""

PANEL = """({
    numbers: Object.fromEntries([...document.querySelectorAll('#panel .numbers > div')].map((d) =>
        [d.querySelector('dt').textContent, d.querySelector('dd').textContent])),
    roles: [...document.querySelectorAll('#panel .role')].map((r) => ({
        name: r.querySelector('h4').textContent, choices: [...r.querySelectorAll('li')].map((l) => l.textContent) })),
})"""

# Elements that reach beyond the window, those inside a box that scrolls or clips aside. Not `innerWidth`: on a phone it grows with
# what is too wide.
TOO_WIDE = """(() => {
    const window = document.documentElement.clientWidth;
    const clips = (e) => { for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
        if (getComputedStyle(p).overflowX !== 'visible') return true; } return false; };
    const wide = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility({ visibilityProperty: true })
        && !e.closest('.hidden, .skip, svg') && e.getBoundingClientRect().right > window + 0.5 && !clips(e));
    const found = wide.map((e) => `${e.tagName}.${e.className}#${e.id}`);
    if (document.documentElement.scrollWidth > window) found.push(`the page: ${document.documentElement.scrollWidth}`);
    return found;
})()"""

# Texts whose contrast with what is behind them is below 4.5, or 3 where they are large.
CONTRAST = """(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const known = new Map();
    const rgba = (colour) => {
        if (!known.has(colour)) {
            canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
        }
        return known.get(colour);
    };
    const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const e = node.parentElement;
        if (!node.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest('.hidden, .skip, option, noscript, script, :disabled')) continue;
        let back = null;
        for (let p = e; p && !back; p = p.parentElement) { const c = rgba(getComputedStyle(p).backgroundColor); if (c[3] === 255) back = c; }
        const style = getComputedStyle(e);
        const [a, b] = [luminance(rgba(style.color)), luminance(back ?? [255, 255, 255])];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
        if (ratio < (large ? 3 : 4.5)) found.push(`${node.data.trim().slice(0, 30)} (${e.tagName}.${e.className}): ${ratio.toFixed(2)}`);
    }
    return found;
})()"""

# Changes the first number among the parameters of the chosen models; what should be sent then, and for which model.
CHANGE_A_NUMBER = """(() => {
    for (const model of document.querySelectorAll('.model')) {
        const box = model.querySelector('label input');
        const field = [...model.querySelectorAll('.parameter.of-number')].find((f) => f.querySelector('input').value !== '' && !f.dataset.path.includes('.'));
        if (!box.checked || !field) continue;
        const input = field.querySelector('input');
        const [low, high] = [input.min === '' ? -Infinity : Number(input.min), input.max === '' ? Infinity : Number(input.max)];
        const now = Number(input.value);
        const value = [now * 0.5, now + 0.25, 0.5, 0.75].find((v) => v !== now && v > low && v < high && v < 1.5);
        input.value = value;
        input.dispatchEvent(new Event('input', { bubbles: true }));
        return { model: box.value, parameters: { [field.dataset.path]: value } };
    }
    return null;
})()"""


def before(key: str | None) -> str:
    """Runs before the page's own scripts: keeps a copy of every answer to a completion, and enters the key of a server that has one.

    Where `torn` is set, the page gets answers in pieces of a few bytes, as networks may deliver them.
    """
    kept = (
        f"if (location.protocol.startsWith('http')) sessionStorage.setItem('logitfuse.key', {json.dumps(key)});"
        if key
        else ""
    )
    return (
        kept
        + """
    globalThis.captured = [];
    const real = globalThis.fetch;
    globalThis.fetch = async (url, options) => {
        const response = await real(url, options);
        if (!String(url).includes('completions') || !response.ok) return response;
        const [page, copy] = response.body.tee();
        const raw = new Response(copy).text().catch(() => '');
        globalThis.captured.push({ request: JSON.parse(options.body), raw });
        const tear = new TransformStream({ transform(bytes, to) {
            for (let at = 0; at < bytes.length; at += 13) to.enqueue(bytes.slice(at, at + 13));
        } });
        return new Response(globalThis.torn ? page.pipeThrough(tear) : page, response);
    };"""
    )


def joined(raw: str) -> tuple[str, int, bool]:
    """The text of a streamed answer, how many tokens it has records of, and whether it ends as it should."""
    text, tokens, done = "", 0, False
    for event in raw.replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:"))
        if data == "[DONE]":
            done = True
        elif data:
            for choice in json.loads(data)["choices"]:
                text += choice.get("text") or choice.get("delta", {}).get("content") or ""
                tokens += len(choice.get("fusion", {}).get("tokens", []))
    return text, tokens, done
