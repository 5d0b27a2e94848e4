"""PyTorch's side of the comparison: times the cases of `scalecrafter bench -list`.

Reads {"threads", "time", "cases", "dtype"} as JSON from the standard input and writes one
JSON line a case: {"name", "variants": {name: [milliseconds]}}. Needs Debian's
python3-torch (1.13); compare.py starts it.
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F


kind = torch.float32  # of all operands


def randn(*shape):
    return torch.randn(*shape).to(kind)


def clock(run, least):
    """Milliseconds of runs for the given number of seconds, three or more, after a warm-up."""
    run()
    out, begin = [], time.perf_counter()
    while len(out) < 3 or time.perf_counter() - begin < least:
        start = time.perf_counter()
        run()
        out.append(1000 * (time.perf_counter() - start))
    return out


def conv(c, least):
    """A convolution in both of PyTorch's layouts."""
    d = math.ceil(c["dilation"])
    side = round(c["side"] * (d / c["dilation"]))
    pad = d * (c["kernel"] - 1) // 2
    small = c["side"] // c["stride"]
    x = randn(c["n"], c["cin"], c["side"], c["side"])
    w = randn(c["cout"], c["cin"], c["kernel"], c["kernel"]) / math.sqrt(c["cin"] * c["kernel"] ** 2)
    b = randn(c["cout"])
    out = {}
    for layout, form in ("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last):
        x, w = x.contiguous(memory_format=form), w.contiguous(memory_format=form)

        def run():
            y = x
            if side != c["side"]:
                y = F.interpolate(y, size=(side, side), mode="bilinear")
            y = F.conv2d(y, w, b, stride=c["stride"], padding=pad, dilation=d)
            if side != c["side"]:
                F.interpolate(y, size=(small, small), mode="bilinear")

        out[layout] = clock(run, least)
    return out


def linear(c, least):
    x = randn(c["tokens"], c["in"])
    w = randn(c["out"], c["in"]) / math.sqrt(c["in"])
    b = randn(c["out"])
    return {"linear": clock(lambda: F.linear(x, w, b), least)}


def attention(q, k, v, heads, step):
    """Attention as diffusers 0.20 runs it without xformers: step heads of the batch at once (0: all)."""
    n, t, wide = q.shape
    s, d = k.shape[1], wide // heads

    def split(x):
        return x.reshape(n, x.shape[1], heads, d).permute(0, 2, 1, 3).reshape(n * heads, x.shape[1], d)

    q, k, v = split(q), split(k), split(v)

    def attend(q, k, v):
        if torch.onnx.is_in_onnx_export():  # baddbmm becomes three more passes over the scores
            return torch.matmul(torch.matmul(q * d**-0.5, k.transpose(1, 2)).softmax(-1), v)
        room = torch.empty(q.shape[0], t, s, dtype=q.dtype)
        scores = torch.baddbmm(room, q, k.transpose(1, 2), beta=0, alpha=d**-0.5)
        del room
        return torch.bmm(scores.softmax(-1), v)

    if step == 0:
        o = attend(q, k, v)
    else:
        o = torch.cat([attend(q[i : i + step], k[i : i + step], v[i : i + step]) for i in range(0, n * heads, step)])
    return o.reshape(n, heads, t, d).permute(0, 2, 1, 3).reshape(n, t, wide)


def too_large(n, heads, queries, keys):
    """The scores of all heads at once, twice, would fill more than 4 GB."""
    return 8 * n * heads * queries * keys > 4 << 30


def attended(c, least):
    q = randn(c["n"], c["queries"], c["heads"] * c["width"])
    k, v = (randn(c["n"], c["keys"], c["heads"] * c["width"]) for _ in range(2))
    steps = {"one head at a time": 1}
    if not too_large(c["n"], c["heads"], c["queries"], c["keys"]):
        steps["all heads"] = 0
    return {name: clock(lambda: attention(q, k, v, c["heads"], step), least) for name, step in steps.items()}


def main():
    global kind
    job = json.load(sys.stdin)
    kind = getattr(torch, job.get("dtype", "float32"))
    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    torch.manual_seed(1)
    with torch.inference_mode():
        for case in job["cases"]:
            for name, run in ("conv", conv), ("linear", linear), ("attention", attended):
                if name in case:
                    print(json.dumps({"name": case["name"], "variants": run(case[name], job["time"])}), flush=True)


if __name__ == "__main__":
    main()
