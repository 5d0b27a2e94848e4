"""PyTorch's side of the comparison of whole U-Net steps.

Reads {"threads", "runs", "cases", "dtype"} as JSON from the standard input and writes one JSON line a case: {"name", "variants":
{name: [milliseconds]}, "peak_rss": {name: bytes}}. Each variant, the two memory layouts, runs in a process of its own, whose peak
resident memory (VmHWM) is reported. "only" names the variant to run. Needs python3-torch; compare.py starts it.

The network is diffusers' UNet2DConditionModel (v0.20) for inference, under the same parameter names, as `scalecrafter` reads it.
"""

import json
import math
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from peers import attention, too_large


def at(values, level, missing):
    if isinstance(values, int):
        return values
    return missing if not values else values[0] if len(values) == 1 else values[level]


class Resnet(nn.Module):
    def __init__(self, c, cin, cout):
        super().__init__()
        groups, eps = c["norm_num_groups"], c["norm_eps"]
        self.norm1 = nn.GroupNorm(groups, cin, eps)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * c["block_out_channels"][0], cout)
        self.norm2 = nn.GroupNorm(groups, cout, eps)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(emb)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    sliced = None  # one head at a time where the keys are the queries; None decides by the size

    def __init__(self, ch, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(n, ch, bias=False) for n in (ch, context, context))
        self.to_out = nn.ModuleList([nn.Linear(ch, ch)])

    def forward(self, x, context):
        large = too_large(x.shape[0], self.heads, x.shape[1], context.shape[1]) if self.sliced is None else self.sliced and x.shape[1] == context.shape[1]
        o = attention(self.to_q(x), self.to_k(context), self.to_v(context), self.heads, 1 if large else 0)
        return self.to_out[0](o)


class GEGLU(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.proj = nn.Linear(ch, 8 * ch)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(ch), nn.Identity(), nn.Linear(4 * ch, ch)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    def __init__(self, ch, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(ch) for _ in range(3))
        self.attn1, self.attn2, self.ff = Attention(ch, ch, heads), Attention(ch, context, heads), FeedForward(ch)

    def forward(self, x, text):
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, c, ch, level):
        super().__init__()
        self.linear = c["use_linear_projection"]
        project = (lambda: nn.Linear(ch, ch)) if self.linear else (lambda: nn.Conv2d(ch, ch, 1))
        self.norm = nn.GroupNorm(c["norm_num_groups"], ch, 1e-6)
        self.proj_in, self.proj_out = project(), project()
        heads, depth = at(c["attention_head_dim"], level, 8), at(c["transformer_layers_per_block"], level, 1)
        self.transformer_blocks = nn.ModuleList(Block(ch, c["cross_attention_dim"], heads) for _ in range(depth))

    def forward(self, x, text):
        n, ch, height, width = x.shape
        h = self.norm(x)
        if not self.linear:
            h = self.proj_in(h)
        h = h.permute(0, 2, 3, 1).reshape(n, height * width, ch)
        if self.linear:
            h = self.proj_in(h)
        for block in self.transformer_blocks:
            h = block(h, text)
        if self.linear:
            h = self.proj_out(h)
        h = h.reshape(n, height, width, ch).permute(0, 3, 1, 2).contiguous()
        if not self.linear:
            h = self.proj_out(h)
        return h + x


class Sampler(nn.Module):
    def __init__(self, ch, stride):
        super().__init__()
        self.conv = nn.Conv2d(ch, ch, 3, stride=stride, padding=1)

    def forward(self, x):
        return self.conv(x)


class Level(nn.Module):
    """One block of the way down, up or between."""

    def __init__(self, c, pairs, level, cross, down=False, up=False):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(c, i, o) for i, o in pairs)
        ch = pairs[0][1]
        if cross:
            self.attentions = nn.ModuleList(Transformer(c, ch, level) for _ in range(cross))
        self.cross = cross
        if down:
            self.downsamplers = nn.ModuleList([Sampler(ch, 2)])
        if up:
            self.upsamplers = nn.ModuleList([Sampler(ch, 1)])


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        channels, layers = c["block_out_channels"], c["layers_per_block"]
        top, last = channels[0], len(channels) - 1
        self.time_embedding = nn.ModuleDict({"linear_1": nn.Linear(top, 4 * top), "linear_2": nn.Linear(4 * top, 4 * top)})
        self.conv_in = nn.Conv2d(c["in_channels"], top, 3, padding=1)
        crosses = lambda kind: "CrossAttn" in kind
        down, up, skips, ch = [], [], [top], top
        for i, out in enumerate(channels):
            pairs = [(ch if j == 0 else out, out) for j in range(layers)]
            down.append(Level(c, pairs, i, layers * crosses(c["down_block_types"][i]), down=i < last))
            skips += [out] * (layers + (i < last))
            ch = out
        self.mid_block = Level(c, [(ch, ch), (ch, ch)], last, 1)
        for i in range(last + 1):
            level, pairs = last - i, []
            for _ in range(layers + 1):
                pairs.append((ch + skips.pop(), channels[level]))
                ch = channels[level]
            up.append(Level(c, pairs, level, (layers + 1) * crosses(c["up_block_types"][i]), up=level > 0))
        self.down_blocks, self.up_blocks = nn.ModuleList(down), nn.ModuleList(up)
        self.conv_norm_out = nn.GroupNorm(c["norm_num_groups"], top, c["norm_eps"])
        self.conv_out = nn.Conv2d(top, c["out_channels"], 3, padding=1)

    def forward(self, x, time_embedding, text):
        emb = self.time_embedding["linear_2"](F.silu(self.time_embedding["linear_1"](time_embedding)))
        emb = F.silu(emb)
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            for j, resnet in enumerate(block.resnets):
                x = resnet(x, emb)
                if block.cross:
                    x = block.attentions[j](x, text)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, emb)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](x, text), emb)
        for block in self.up_blocks:
            for j, resnet in enumerate(block.resnets):
                x = resnet(torch.cat([x, skips.pop()], 1), emb)
                if block.cross:
                    x = block.attentions[j](x, text)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def dilate(self, factor):
        """Re-dilates, as a plan with this factor on every layer does: every 3x3 convolution but the first and the last."""
        for name, m in self.named_modules():
            if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and name not in ("conv_in", "conv_out"):
                m.dilation = m.padding = (factor, factor)


def build(c):
    """The network with weights uniform in +-1/sqrt(fan in); the layers' own start would take longer than a step."""
    for kind in nn.Linear, nn.Conv2d:
        kind.reset_parameters = lambda self: None
    net = UNet(c).eval().requires_grad_(False)
    for m in net.modules():
        if isinstance(m, (nn.Linear, nn.Conv2d)):
            bound = 1 / math.sqrt(m.weight[0].numel())
            m.weight.uniform_(-bound, bound)
            if m.bias is not None:
                m.bias.uniform_(-bound, bound)
    return net


def peak():
    with open("/proc/self/status") as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def one(step, variant, threads, runs, dtype):
    """Times one variant in this process."""
    dtype = getattr(torch, dtype)
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(1)
    c = step["config"]
    with torch.inference_mode():
        torch.set_default_dtype(dtype)  # the weights are never made in another
        net = build(c)
        net.dilate(int(step["dilation"]))
        x = torch.randn(step["n"], c["in_channels"], step["side"], step["side"])
        if variant == "channels_last":
            net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        embedded = torch.randn(step["n"], c["block_out_channels"][0])
        text = torch.randn(step["n"], step["tokens"], c["cross_attention_dim"])
        times, begin = [], time.perf_counter()
        while len(times) < runs + 1 or time.perf_counter() - begin < 3:
            start = time.perf_counter()
            net(x, embedded, text)
            times.append(1000 * (time.perf_counter() - start))
    return {"times": times[1:], "peak_rss": peak()}


def export(step, path, sliced):
    """Writes the network as ONNX for ONNX Runtime; weights of more than 2 GB go into files beside it."""
    c = step["config"]
    Attention.sliced = sliced
    torch.manual_seed(1)
    with torch.no_grad():
        net = build(c)
        net.dilate(int(step["dilation"]))
        # Traced at the smallest side with the size left open: tracing runs the network, at full size for minutes.
        side = 2 ** (len(c["block_out_channels"]) - 1)
        x = torch.randn(step["n"], c["in_channels"], side, side)
        embedded, text = torch.randn(step["n"], c["block_out_channels"][0]), torch.randn(step["n"], step["tokens"], c["cross_attention_dim"])
        torch.onnx.export(net, (x, embedded, text), path, input_names=["x", "embedded", "text"], output_names=["y"], opset_version=16, do_constant_folding=False,
                          dynamic_axes={"x": {2: "height", 3: "width"}, "y": {2: "height", 3: "width"}})


def main():
    job = json.load(sys.stdin)
    if "export" in job:
        export(job["step"], job["export"], job["sliced"])
        return
    if "variant" in job:
        print(json.dumps(one(job["step"], job["variant"], job["threads"], job["runs"], job["dtype"])))
        return
    for case in job["cases"]:
        result = {"name": case["name"], "variants": {}, "peak_rss": {}}
        for variant in [job["only"]] if job.get("only") else ["contiguous", "channels_last"]:
            part = {"variant": variant, "step": case["step"], "threads": job["threads"], "runs": job["runs"], "dtype": job.get("dtype", "float32")}
            out = subprocess.run([sys.executable, __file__], input=json.dumps(part), stdout=subprocess.PIPE, text=True, check=True)
            r = json.loads(out.stdout)
            result["variants"][variant], result["peak_rss"][variant] = r["times"], r["peak_rss"]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
