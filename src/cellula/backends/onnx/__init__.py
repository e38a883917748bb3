"""PLAN -> ONNX: a graph that other runtimes run, and ONNX's recurrent nodes back into formulas.

`model` (plain values) and `writer` need no package; `proto`, which makes the file, and `reader` use `onnx`.
"""
