"""Runs this program, PyTorch and ONNX Runtime on the same cases, in turn, and writes the table of ratios.

run.sh builds and installs what this needs and starts it. All three take turns, several rounds on each
group of cases, so that a busy or throttled moment of the machine hits all of them; the figures are medians over all
rounds. Needs nothing but the standard library.

A comparison can be run in parts: with --merge results.json a run takes in what earlier ones have measured. Every case
belongs to the part that measured it last, ours and the peers in one run; compare_test.py tests that.

results.json: "parts" [{"when", "threads", "machine", "versions", "skipped", "seconds"}]; "kernels" and "steps", a list
of cases each, with "part", the index of theirs.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# The bars: our time over the best peer's, for cases whose name matches, in float32, bf16x3 and bf16. bf16 is held against PyTorch in
# bfloat16, the other two against the best float32 peer.
MODES = ["float32", "bf16x3", "bf16"]
BARS = [
    (r"^bars/conv3x3 .* d1$", [0.7, 0.4, 0.8]),
    (r"^bars/conv3x3 .* d(2|3|4|2\.5)$", [0.6, 0.4, 0.8]),
    (r"^bars/conv5x5 ", [1.0, 0.5, 0.9]),
    (r"^bars/linear ", [1.0, 0.6, 1.0]),
    (r"^bars/attention ", [0.6, 0.5, 0.8]),
    (r"^steps/step sd1\.5 ", [0.6, 0.35, 0.6]),
    (r"^steps/step critters ", [0.5, None, None]),
]
HALF = "PyTorch bf16"
MEMORY_BAR = 0.5


def environment(args, **more):
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), OPENBLAS_NUM_THREADS=str(args.threads), **more)
    if args.blas:
        env["LD_LIBRARY_PATH"] = args.blas + ":" + env.get("LD_LIBRARY_PATH", "")
    return env


def ours(args, cases, seconds, steps=False):
    """{name: result} of one run of this program's bench."""
    only = "^(" + "|".join(re.escape(c["name"]) for c in cases) + ")$"
    command = [args.bench, "bench", "-json", "-", "-math", args.math, "-threads", str(args.threads), "-time", f"{seconds}s", "-only", only]
    command += ["-weights", args.weights, "-keep", "-steps"] if steps else []
    command += ["-quick", "-time", "0s"] if args.quick else []
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(args))
    if out.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {out.returncode}\n{out.stderr}")
    report = json.loads(out.stdout)
    machine = {k: report[k] for k in ("cpu", "cores", "go", "path", "peak_gflops")}
    machine["peak_gflops"] = max(machine["peak_gflops"], getattr(args, "machine", machine)["peak_gflops"])
    args.machine = machine
    args.skipped.update(report.get("skipped") or {})
    return report["results"]


def worker(args, command, cases, seconds, **fields):
    """What a peer's script says of the cases, {name: its line}; its failure is shown, not hidden."""
    job = json.dumps({"threads": args.threads, "time": seconds, "cases": cases} | fields)
    more = {} if "runs" in fields else {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}  # keep freed memory
    out = subprocess.run(command, input=job, stdout=subprocess.PIPE, text=True, env=environment(args, **more))
    if out.returncode != 0:
        print(f"{command}: exit status {out.returncode}", file=sys.stderr)
    return {r["name"]: r for r in map(json.loads, out.stdout.splitlines())}


class Row:
    def __init__(self, case):
        self.case = case
        self.ours = {}  # mode: times
        self.error = {}
        self.peers = {}  # peer: variant: times
        self.memory = {}  # program: bytes

    def best(self, mode="float32"):
        """(milliseconds, who) of the fastest peer that a mode is held against."""
        found = [(statistics.median(t), f"{peer} ({variant})") for peer, v in self.peers.items() for variant, t in v.items() if (peer == HALF) == (mode == "bf16")]
        return min(found) if found else (None, "")

    def bars(self):
        return next((dict(zip(MODES, b)) for pattern, b in BARS if re.search(pattern, self.case["name"])), {})

    def json(self):
        out = {"name": self.case["name"], "bars": self.bars(), "memory": self.memory, "error": self.error}
        out["ours_ms"] = {m: statistics.median(t) for m, t in self.ours.items()}
        out["best_peer"] = {m: self.best(m) for m in self.ours}
        out["ratio"] = {m: ms / out["best_peer"][m][0] for m, ms in out["ours_ms"].items() if out["best_peer"][m][0]}
        out["peers_ms"] = {f"{p} ({v})": statistics.median(t) for p, vs in self.peers.items() for v, t in vs.items()}
        out["times_ms"] = {"ours": self.ours, "peers": self.peers}
        return out

    def line(self):
        """What is shown while the comparison runs."""
        j = self.json()
        parts = [f"{m} {ms:.2f} ms, {j['best_peer'][m][1]} {j['best_peer'][m][0] or 0:.2f} ms, ratio {j['ratio'].get(m, 0):.2f}" + (f" (bar {j['bars'][m]})" if j["bars"].get(m) else "") for m, ms in j["ours_ms"].items()]
        return f"  {j['name']:44} " + "; ".join(parts + [f"{who} {b / 2**20:.0f} MiB" for who, b in self.memory.items()])


def group(case):
    """Cases that are measured in one go: those of a set and kind."""
    name = case["name"]
    kind = re.match(r"[a-z]+(\dx\d)?", name.split("/")[1])[0]
    return name.split("/")[0] + "/" + kind + ("" if case.get("conv", {}).get("dilation", 1) == 1 else " dilated")


def kernels(args, cases):
    rows = {c["name"]: Row(c) for c in cases}
    groups = {}
    for c in cases:
        groups.setdefault(group(c), []).append(c)
    peers = {"PyTorch": [args.python, os.path.join(HERE, "peers.py")], "ONNX Runtime": ["node", os.path.join(HERE, "ort.mjs"), args.ort]}
    peers[HALF] = peers["PyTorch"]
    for name, members in groups.items():
        print(f"{name}: {len(members)} cases", file=sys.stderr)
        for _ in range(args.rounds):
            for r in ours(args, members, args.time):
                rows[r["name"]].ours.setdefault(r["math"], []).extend(r["times_ms"])
                rows[r["name"]].error[r["math"]] = r["error"]
            half = any("bf16" in rows[c["name"]].ours for c in members)
            for peer, command in peers.items():
                if peer == HALF and not half:
                    continue
                dtype = {"dtype": "bfloat16"} if peer == HALF else {}
                for case, r in worker(args, command, members, args.time, **dtype).items():
                    for variant, times in r["variants"].items():
                        rows[case].peers.setdefault(peer, {}).setdefault(variant, []).extend(times)
        for c in members:
            print(rows[c["name"]].line(), file=sys.stderr)
    return list(rows.values())


def exported(args, case, parts=1):
    """The step's network as an ONNX file for one of so many parts of its batch, kept under --weights; "" where PyTorch cannot export it."""
    v = case["step"] | {"n": case["step"]["n"] // parts}
    folder = os.path.join(args.weights, f"scalecrafter-onnx-{v['net']}-n{v['n']}-{v['side']}-d{v['dilation']}")
    path = os.path.join(folder, "net.onnx")
    if not os.path.exists(os.path.join(folder, "complete")):
        os.makedirs(folder, exist_ok=True)
        job = json.dumps({"export": path, "step": v, "sliced": v["side"] > 64})
        out = subprocess.run([args.python, "-W", "ignore", os.path.join(HERE, "steps.py")], input=job, text=True, env=environment(args))
        if out.returncode != 0:
            args.skipped[case["name"]] = f"ONNX Runtime did not run {case['name']}: PyTorch could not export it."
            return ""
        open(os.path.join(folder, "complete"), "w").close()
    return path


def steps(args, cases):
    rows = []
    os.makedirs(args.weights, exist_ok=True)
    for c in cases:
        row = Row(c)
        rows.append(row)
        model = exported(args, c) if args.ort_steps == "all" or args.ort_steps == "small" and c["step"]["net"] != "sd1.5" else ""
        # Of small networks our threads take a part of the batch each; ONNX Runtime may do so too.
        parts = model and c["step"]["net"] != "sd1.5" and c["step"]["n"] % args.threads == 0 and exported(args, c, args.threads)
        for _ in range(args.step_rounds):
            for r in ours(args, [c], 1, steps=True):
                row.ours.setdefault(r["math"], []).extend(r["times_ms"])
                who = "ours" if r["math"] == "float32" else "ours " + r["math"]
                row.memory[who] = max(row.memory.get(who, 0), r["peak_rss"])
            found = {}
            for peer in ["PyTorch", HALF] if "bf16" in row.ours else ["PyTorch"]:
                # Both layouts once, then the faster one.
                known = row.peers.get(peer)
                only = min(known, key=lambda v: statistics.median(known[v])) if known else ""
                dtype = "bfloat16" if peer == HALF else "float32"
                found[peer] = worker(args, [args.python, os.path.join(HERE, "steps.py")], [c], 0, only=only, runs=args.step_runs, dtype=dtype)
            if model:
                found["ONNX Runtime"] = worker(args, ["node", os.path.join(HERE, "ort.mjs"), args.ort], [c], 0, model=model, parts=parts or "", runs=args.step_runs)
            for peer, results in found.items():
                for r in results.values():
                    for variant, times in r["variants"].items():
                        row.peers.setdefault(peer, {}).setdefault(variant, []).extend(times)
                        row.memory[peer] = min(row.memory.get(peer, 1 << 62), r["peak_rss"][variant])
            print(row.line(), file=sys.stderr)
    return rows


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows])


def verdict(ratio, bar):
    if bar is None:
        return ""
    return f"<= {bar}" + ("" if ratio <= bar else ", missed")


def merge(results):
    """One result of several, later ones over earlier ones: a case measured again takes its old one's place. Parts of which no
    case is left go, and so do notes on cases that another part measured."""
    parts, cases = [], {"kernels": {}, "steps": {}}
    for result in results:
        at = []
        for part in result["parts"]:
            if part not in parts:
                parts.append(part)
            at.append(parts.index(part))
        for kind in cases:
            for entry in result[kind]:
                cases[kind][entry["name"]] = entry | {"part": at[entry["part"]]}
    entries = [e for kind in cases.values() for e in kind.values()]
    used = sorted({e["part"] for e in entries})
    by_name = {e["name"]: e for e in entries}
    out = {"parts": []}
    for i in used:
        skipped = {k: why for k, why in parts[i]["skipped"].items() if by_name.get(k, {"part": i})["part"] == i}
        out["parts"].append(parts[i] | {"skipped": skipped})
    for kind, named in cases.items():
        out[kind] = [e | {"part": used.index(e["part"])} for e in named.values()]
    return out


def load(path):
    """A results.json, also one from before there were parts."""
    try:
        with open(path) as f:
            result = json.load(f)
        if "parts" not in result:
            part = {k: result[k] for k in ("when", "threads", "machine", "versions", "skipped", "seconds")}
            result = {"parts": [part]} | {kind: [e | {"part": 0} for e in result[kind]] for kind in ("kernels", "steps")}
        return merge([result])
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as e:
        sys.exit(f"--merge {path}: not a results.json of this script: {type(e).__name__}: {e}")


def setting(part):
    """What must be the same for times to compare: {what: which}."""
    m = part["machine"]
    return {"machine": f"{m['cpu']}, {m['cores']} cores", "threads": str(part["threads"]), "kernels": m["path"], "Go": m["go"]} | part["versions"]


def sentence(part):
    m = part["machine"]
    return (f"{m['cpu']}, {m['cores']} cores; {part['threads']} threads each; {m['path']} kernels, {m['peak_gflops']:.0f} GFLOP/s at most in registers. "
            f"{part['when']}. " + ", ".join(f"{k} {v}" for k, v in part["versions"].items()) + ".")


def differences(parts):
    """{what: {which: [numbers of parts, from 1]}} of all that is not the same in all parts."""
    out = {}
    for what in dict.fromkeys(k for p in parts for k in setting(p)):
        which = {}
        for i, p in enumerate(parts):
            which.setdefault(setting(p).get(what, "not known"), []).append(i + 1)
        if len(which) > 1:
            out[what] = which
    return out


def notes(result):
    """The list below the tables."""
    parts, out = result["parts"], []
    if len(parts) > 1:
        for i, p in enumerate(parts):
            counts = [f"{n} {name}" + "s" * (n > 1) for kind, name in (("kernels", "layer"), ("steps", "step")) if (n := sum(e["part"] == i for e in result[kind]))]
            out.append(f"Part {i + 1}, {' and '.join(counts)}: {sentence(p)}")
        differ = [f"in {what}: " + ", ".join(f"{value} (part {', '.join(map(str, at))})" for value, at in which.items()) for what, which in differences(parts).items()]
        if differ:
            out.append("The parts differ " + "; ".join(differ) + ". Each ratio is of one part; times of different ones do not compare.")
    said = {}
    for i, p in enumerate(parts):
        for why in p["skipped"].values():
            said.setdefault(why, []).append(str(i + 1))
    return out + [why if len(at) == len(parts) else f"Part {', '.join(at)}: {why}" for why, at in said.items()]


def markdown(result):
    parts = result["parts"]
    many = len(parts) > 1
    head = f"Measured in {len(parts)} parts, each case's ours and peers in one; see the notes." if many else sentence(parts[0])
    part = lambda r: [str(r["part"] + 1)] if many else []
    out = ["# Against PyTorch and ONNX Runtime", "", head, "",
           "Medians in milliseconds; the ratio is ours over the fastest peer's, below 1 is ahead. The peers' variants: both memory layouts of PyTorch; "
           "attention of all heads at once and of one at a time; ONNX Runtime's own attention operator and plain products, and a step of a small network "
           "with all threads on the whole batch or, as ours, each on a part of it. "
           "Our steps keep the text's keys and values and packed weights from run to run, as sampling does; PyTorch computes the former in every run. "
           "Error: ours against float64 over that of a plain float32 dot product; relative: to the results' own size. Made by `docs/benchmarks/run.sh`.", ""]
    for mode in MODES:
        rows = [[r["name"], f"{r['ours_ms'][mode]:.2f}", f"{r['best_peer'][mode][0]:.2f}", r["best_peer"][mode][1], f"**{r['ratio'][mode]:.2f}**", verdict(r["ratio"][mode], r["bars"].get(mode)), f"{r['error'][mode]['ratio']:.2f}", f"{r['error'][mode]['relative']:.1e}"] + part(r)
                for r in result["kernels"] if mode in r["ratio"]]
        if rows:
            out += [f"## Layers, {mode}", "", table(["layer", "ours", "best peer", "which", "ratio", "bar", "error", "relative"] + ["part"] * many, rows), ""]
    for mode in MODES:
        rows = []
        for r in result["steps"]:
            if mode not in r["ratio"]:
                continue
            mine, theirs = r["memory"].get("ours" if mode == "float32" else "ours " + mode), r["memory"].get(HALF if mode == "bf16" else "PyTorch")
            memory = f"{mine / 2**20:.0f} / {theirs / 2**20:.0f} = {mine / theirs:.2f}" if mine and theirs else ""
            rows.append([r["name"], f"{r['ours_ms'][mode]:.0f}", f"{r['best_peer'][mode][0]:.0f}", r["best_peer"][mode][1], f"**{r['ratio'][mode]:.2f}**", verdict(r["ratio"][mode], r["bars"].get(mode)), memory] + part(r))
        if rows:
            out += [f"## Whole steps, {mode}", "", table(["step", "ours", "best peer", "which", "ratio", "bar", f"peak MiB, ours / PyTorch (bar {MEMORY_BAR})"] + ["part"] * many, rows), ""]
    out += [f"- {note}" for note in notes(result)]
    return "\n".join(out) + "\n"


def revision():
    """The commit of the sources around this script, which run.sh builds, with a + where they were changed; "" if it is not known."""
    def git(*command):
        return subprocess.run(["git", "-C", HERE, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "--", *(f":(top)*.{kind}" for kind in ("go", "s", "h", "safetensors"))))
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions(args):
    torch = subprocess.run([args.python, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE, text=True, env=environment(args)).stdout.strip()
    with open(os.path.join(args.ort, "node_modules", "onnxruntime-node", "package.json")) as f:
        ort = json.load(f)["version"]
    found = {"scalecrafter": revision(), "PyTorch": torch, "ONNX Runtime": ort, "Linux": platform.release()}
    return {what: version for what, version in found.items() if version}


def write(folder, result):
    """results.json and results.md, each whole or not at all."""
    os.makedirs(folder, exist_ok=True)
    for name, text in ("results.json", json.dumps(result, indent=1) + "\n"), ("results.md", markdown(result)):
        path = os.path.join(folder, name)
        with open(path + ".tmp", "w") as f:
            f.write(text)
        os.replace(path + ".tmp", path)


def main(argv=None):
    p = argparse.ArgumentParser()
    p.add_argument("--bench", help="this program, built")
    p.add_argument("--ort", help="folder with node_modules/onnxruntime-node")
    p.add_argument("--python", default="/usr/bin/python3", help="a Python that has torch")
    p.add_argument("--blas", default="", help="folder with a libblas.so.3 for PyTorch that is not Debian's reference one")
    p.add_argument("--out", default=HERE, help="folder for results.md and results.json")
    p.add_argument("--merge", nargs="+", default=[], metavar="RESULTS.JSON", help="take in what these have measured, later ones over earlier ones and this run over all; one of them may be the one that is written")
    p.add_argument("--render", action="store_true", help="measure nothing: write what --merge names")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3, help="of every group of layers")
    p.add_argument("--time", type=float, default=0.5, help="seconds a case and round")
    p.add_argument("--step-rounds", type=int, default=2)
    p.add_argument("--step-runs", type=int, default=1, help="of every step and round that are timed, after one that is not")
    p.add_argument("--ort-steps", choices=["none", "small", "all"], default="all", help="steps that ONNX Runtime runs too; SD 1.5's export takes minutes and 3.4 GB under --weights for each step")
    p.add_argument("--only", default="^bars/|^steps/", help="cases by name; '' for all layers of all networks")
    p.add_argument("--math", default="float32,bf16x3,bf16")
    p.add_argument("--weights", default=tempfile.gettempdir(), help="folder for files of random weights")
    p.add_argument("--kernels", action="store_true", help="layers only")
    p.add_argument("--steps", action="store_true", help="whole steps only")
    p.add_argument("--quick", action="store_true", help="tiny cases, to try the scripts")
    args = p.parse_args(argv)
    earlier = [load(path) for path in args.merge]
    if args.render:
        if not earlier:
            p.error("--render needs --merge")
    elif not args.bench or not args.ort:
        p.error("--bench and --ort are needed to measure; run.sh gives them")
    if not args.render:
        earlier.append(measure(args))
    result = merge(earlier)
    write(args.out, result)
    print(markdown(result), end="")


def measure(args):
    """This run's result, one part."""
    if args.quick:
        args.only, args.rounds, args.step_rounds, args.time = "", 1, 1, 0
    quick = ["-quick"] if args.quick else []

    def listed(*more):
        out = subprocess.run([args.bench, "bench", "-list", "-only", args.only, *quick, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return json.loads(out.stdout) if out.returncode == 0 else []

    args.skipped = {}
    begin = time.time()
    part = {"when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "threads": args.threads, "versions": versions(args)}
    layers = [] if args.steps else [r.json() for r in kernels(args, listed())]
    whole = [] if args.kernels else [r.json() for r in steps(args, listed("-steps"))]
    if not layers and not whole:
        sys.exit("no case matches --only")
    part |= {"machine": args.machine, "skipped": args.skipped, "seconds": time.time() - begin}
    return {"parts": [part], "kernels": [e | {"part": 0} for e in layers], "steps": [e | {"part": 0} for e in whole]}


if __name__ == "__main__":
    main()
