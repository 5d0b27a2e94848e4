"""Tests what compare.py does without peers: python3 docs/benchmarks/compare_test.py"""

import contextlib
import copy
import io
import json
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import compare


def entry(name, ours, peer, part=0):
    return {"name": name, "bars": {}, "memory": {}, "error": {"float32": {"ratio": 0.5, "relative": 1e-7}}, "ours_ms": {"float32": ours},
            "best_peer": {"float32": [peer, "PyTorch (linear)"]}, "ratio": {"float32": ours / peer}, "peers_ms": {}, "times_ms": {}, "part": part}


def result(when, layers=(), steps=(), cpu="AMD EPYC", torch="1.13", peak=180.0, **skipped):
    machine = {"cpu": cpu, "cores": 2, "go": "go1.26", "path": "avx2", "peak_gflops": peak}
    part = {"when": when, "threads": 2, "machine": machine, "versions": {"PyTorch": torch}, "skipped": skipped, "seconds": 1.0}
    return {"parts": [part], "kernels": list(layers), "steps": list(steps)}


def measured(merged, name):
    """(ours, when) of a case."""
    e = next(e for kind in ("kernels", "steps") for e in merged[kind] if e["name"] == name)
    return e["ours_ms"]["float32"], merged["parts"][e["part"]]["when"]


class Merge(unittest.TestCase):
    def setUp(self):
        self.layers = result("monday", [entry("a", 1, 10), entry("b", 2, 10)], bf16="no bf16 here", a="a was hard")
        self.steps = result("tuesday", steps=[entry("s", 3, 10)], peak=181.5, bf16="no bf16 here")
        self.again = result("wednesday", [entry("a", 4, 20), entry("c", 5, 20)])

    def test_replaces(self):
        merged = compare.merge([self.layers, self.steps, self.again])
        self.assertEqual([measured(merged, n) for n in "abcs"], [(4, "wednesday"), (2, "monday"), (5, "wednesday"), (3, "tuesday")])
        self.assertEqual([e["name"] for e in merged["kernels"]], ["a", "b", "c"])
        self.assertEqual(merged["kernels"][0]["ratio"]["float32"], 0.2)  # of one run, not 4 over 10

    def test_order_decides(self):
        merged = compare.merge([self.again, self.layers])
        self.assertEqual(measured(merged, "a"), (1, "monday"))

    def test_drops_parts_and_notes(self):
        merged = compare.merge([self.layers, self.steps, self.again])
        self.assertEqual(merged["parts"][0]["skipped"], {"bf16": "no bf16 here"})  # a is measured now
        merged = compare.merge([self.layers, result("thursday", [entry("a", 6, 10), entry("b", 7, 10)])])
        self.assertEqual([p["when"] for p in merged["parts"]], ["thursday"])

    def test_merging_again_changes_nothing(self):
        merged = compare.merge([self.layers, self.steps, self.again])
        for more in [merged], [merged, merged], [self.layers, merged], [self.steps, self.layers, merged]:
            merged_again = compare.merge(more)
            self.assertEqual({n: measured(merged_again, n) for n in "abcs"}, {n: measured(merged, n) for n in "abcs"})
            self.assertEqual(len(merged_again["parts"]), 3)

    def test_leaves_its_arguments(self):
        before = copy.deepcopy([self.layers, self.steps, self.again])
        compare.merge([self.layers, self.steps, self.again])
        self.assertEqual([self.layers, self.steps, self.again], before)


class Markdown(unittest.TestCase):
    layers = result("monday", [entry("a", 1, 10)], bf16="no bf16 here")
    steps = result("tuesday", steps=[entry("s", 3, 10)], peak=181.5, bf16="no bf16 here")

    def test_one_part(self):
        text = compare.markdown(self.layers)
        self.assertIn("AMD EPYC, 2 cores; 2 threads each; avx2 kernels, 180 GFLOP/s at most in registers. monday. PyTorch 1.13.", text)
        self.assertIn("| a | 1.00 | 10.00 | PyTorch (linear) | **0.10** |  | 0.50 | 1.0e-07 |\n", text)
        self.assertNotIn("art 1", text)

    def test_parts(self):
        text = compare.markdown(compare.merge([self.layers, self.steps]))
        self.assertIn("| 1.0e-07 | 1 |\n", text)
        self.assertIn("**0.30** |  |  | 2 |\n", text)
        self.assertIn("- Part 1, 1 layer: AMD EPYC", text)
        self.assertIn("- Part 2, 1 step: AMD EPYC", text)
        self.assertEqual(text.count("no bf16 here"), 1)
        self.assertNotIn("differ", text)  # the peak alone always does

    def test_differences(self):
        other = result("tuesday", steps=[entry("s", 3, 10)], cpu="Xeon", torch="2.0")
        text = compare.markdown(compare.merge([self.layers, other]))
        self.assertIn("- The parts differ in machine: AMD EPYC, 2 cores (part 1), Xeon, 2 cores (part 2); in PyTorch: 1.13 (part 1), 2.0 (part 2). Each ratio", text)
        self.assertIn("- Part 1: no bf16 here", text)
        self.assertNotIn("in Go", text)


class Files(unittest.TestCase):
    def render(self, out, *paths):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            compare.main(["--render", "--out", out, "--merge", *paths])

    def test_render(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for i, r in enumerate([result("monday", [entry("a", 1, 10)]), result("tuesday", [entry("a", 2, 10), entry("b", 3, 10)])]):
                if i == 0:  # as it was before there were parts
                    part = r.pop("parts")[0]
                    del r["kernels"][0]["part"]
                    r |= part
                paths.append(os.path.join(folder, f"{i}.json"))
                with open(paths[-1], "w") as f:
                    json.dump(r, f)
            out = os.path.join(folder, "out")
            self.render(out, *paths)
            merged = compare.load(os.path.join(out, "results.json"))
            self.assertEqual([measured(merged, n) for n in "ab"], [(2, "tuesday"), (3, "tuesday")])
            with open(os.path.join(out, "results.md")) as f:
                self.assertEqual(f.read(), compare.markdown(merged))
            self.render(out, os.path.join(out, "results.json"), paths[0])  # over the file that it reads
            merged = compare.load(os.path.join(out, "results.json"))
            self.assertEqual([measured(merged, n) for n in "ab"], [(1, "monday"), (3, "tuesday")])
            self.assertEqual(sorted(os.listdir(out)), ["results.json", "results.md"])

    def test_bad_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bad.json")
            for text in "", "{}", "[]", '{"parts": [], "kernels": [{"name": "a", "part": 0}], "steps": []}', '{"parts": 3, "kernels": [], "steps": []}':
                with open(path, "w") as f:
                    f.write(text)
                with self.assertRaisesRegex(SystemExit, "bad.json: not a results.json"):
                    self.render(folder, path)
            with self.assertRaisesRegex(SystemExit, "none.json: not a results.json"):
                self.render(folder, os.path.join(folder, "none.json"))
            self.assertEqual(os.listdir(folder), ["bad.json"])

    def test_needs(self):
        for argv in ["--render"], [], ["--bench", "x"]:
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                compare.main(argv)


if __name__ == "__main__":
    unittest.main()
