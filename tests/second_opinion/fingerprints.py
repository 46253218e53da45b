"""A second opinion on weights `fingerprint` of dynamic-kl: from token ids to choices, float64, from the definitions.

Reads one JSON object from standard input:

    models   paths of ONNX decoders: the anti, then the experts
    kinds    for each expert, the token ids of its calibration prompts
    prompts  the token ids of the prompts to choose for
    slack    how many times its radius an expert reaches

and prints one `{"expert": index or -1, "nats": distance, "margin": how clear the choice was}` a prompt. It shares no code with
what it judges, neither the forward pass (onnxruntime, one prompt at a time, without a cache) nor the divergences (numpy).
"""

import json
import sys

import numpy as np
import onnxruntime


class Model:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def expects(self, tokens):
        """The distribution of the next token after `tokens`."""
        feeds = {}
        for argument in self.session.get_inputs():
            if argument.name == "input_ids":
                feeds[argument.name] = np.array([tokens], np.int64)
            elif argument.name == "attention_mask":
                feeds[argument.name] = np.ones((1, len(tokens)), np.int64)
            elif argument.name == "position_ids":
                feeds[argument.name] = np.arange(len(tokens))[None]
            else:
                shape = [1 if n == 0 else 0 if isinstance(d, str) else d for n, d in enumerate(argument.shape)]
                feeds[argument.name] = np.zeros(shape, np.float16 if "16" in argument.type else np.float32)
        row = self.session.run(["logits"], feeds)[0][0, -1].astype(np.float64)
        p = np.exp(row - row.max())
        return p / p.sum()


def kl(p, q):
    told = p > 0
    return float((p[told] * np.log(p[told] / q[told])).sum())


def jensen_shannon(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def distance(rows, centre):
    """Over the models: rows and centre are `[models, vocabulary]`."""
    return sum(jensen_shannon(p, q) for p, q in zip(rows, centre, strict=True))


def radius(own):
    """Of prompts `[prompts, models, vocabulary]`: the farthest from the mean of the others."""
    return max(distance(own[n], np.delete(own, n, 0).mean(0)) for n in range(len(own)))


def main():
    task = json.load(sys.stdin)
    models = [Model(path) for path in task["models"]]

    def rows(tokens):
        return np.stack([model.expects(tokens) for model in models])

    kinds = [np.stack([rows(tokens) for tokens in prompts]) for prompts in task["kinds"]]
    centres = [own.mean(0) for own in kinds]
    reaches = [task["slack"] * radius(own) for own in kinds]
    for tokens in task["prompts"]:
        here = rows(tokens)
        distances = [distance(here, centre) for centre in centres]
        pick = int(np.argmin(distances))
        nats = distances[pick]
        others = [d - nats for expert, d in enumerate(distances) if expert != pick]
        margin = min([abs(nats - reaches[pick]), *others])
        print(json.dumps({"expert": pick if nats <= reaches[pick] else -1, "nats": nats, "margin": margin}))


if __name__ == "__main__":
    main()
