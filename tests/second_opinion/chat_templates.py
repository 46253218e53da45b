"""A second opinion on chat templates: what `transformers` makes of them.

    python chat_templates.py text/src/jinja/probes.json

reads pairs of a template and a text, renders each template as `apply_chat_template` does for one user's message, and writes
the file again with what came out, null where it was refused. Needs transformers and jinja2; no torch. After it, the test
`templates_give_what_python_gives` of the crate `text` says what is different here.
"""

import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [{"role": "user", "content": "Hi"}]


def rendered(template):
    try:
        texts, _ = render_jinja_template(
            [MESSAGES], chat_template=template, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
        )
    except Exception:  # whatever a template raises
        return None
    return texts[0]


def main():
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        probes = json.load(file)
    lines = [json.dumps([template, rendered(template)], ensure_ascii=False) for template, _ in probes]
    with open(path, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


main()
