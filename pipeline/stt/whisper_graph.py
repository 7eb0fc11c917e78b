"""The networks of Whisper as ONNX graphs. Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision", https://arxiv.org/abs/2212.04356

Weights have 8 bits, with a scale for each output. What they are multiplied with has 8 bits too, with a scale for each
place: one for a whole sound, which a ready-made operator would take, makes every sixth token another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from pipeline.logmel import BANDS
from pipeline.stt.whisper_weights import HEADS, WIDTH, Floats, Weights, layers

SIZE = HEADS * WIDTH
"""Of a state."""

CANDIDATES = 16
"""Of each place, the likeliest tokens are told."""

OPSET, CONTRIB, IR = 17, 1, 9
"""Versions of the operators, of those of ONNX Runtime alone, and of the format."""

LARGEST, MIDDLE = 127, 128
"""Of a number of 8 bits, and what is nought in one without a sign."""


def encoder(weights: Weights) -> bytes:
    """From ``mel``, shape (1, BANDS, n) of 10 ms each, to what each layer of the decoder attends to: ``heard_keys.i``,
    shape (1, HEADS, WIDTH, n / 2), and ``heard_values.i``, shape (1, HEADS, n / 2, WIDTH).
    """
    graph = _Graph(weights)
    x = graph.gelu(graph.convolution("mel", "encoder/conv1", stride=1))
    x = graph.gelu(graph.convolution(x, "encoder/conv2", stride=2))
    x = graph.node("Transpose", x, perm=[0, 2, 1])
    places = graph.constant(graph.floats("encoder/position_encodings/encodings"))
    length = graph.node("Shape", x, start=1, end=2)
    x = graph.node("Add", x, graph.node("Slice", places, graph.integers(0), length, graph.integers(0)))
    for number in range(layers(weights, "encoder")):
        layer = f"encoder/layer_{number}"
        normal = graph.norm(x, f"{layer}/self_attention/layer_norm")
        joined = graph.linear(normal, f"{layer}/self_attention/linear_0")
        queries, keys, values = graph.nodes("Split", 3, joined, axis=2)
        seen = graph.attention(graph.queries(queries), graph.keys(keys), graph.heads(values))
        x = graph.node("Add", x, graph.linear(graph.joined(seen), f"{layer}/self_attention/linear_1"))
        x = graph.feed_forward(x, f"{layer}/ffn")
    x = graph.norm(x, "encoder/layer_norm")
    for number in range(layers(weights, "decoder")):
        joined = graph.linear(x, f"decoder/layer_{number}/attention/linear_1")
        keys, values = graph.nodes("Split", 2, joined, axis=2)
        graph.result(graph.keys(keys), f"heard_keys.{number}")
        graph.result(graph.heads(values), f"heard_values.{number}")
    return graph.serialised({"mel": (1, BANDS, "n")})


def decoder(weights: Weights, forbidden: list[int]) -> bytes:
    """From ``x``, the states of new tokens, shape (texts, new, SIZE), to the tokens that may follow each of them:
    ``tokens`` and their log probabilities ``likelihoods``, shape (texts, new, CANDIDATES), without those ``forbidden``.
    ``first``, the probability of every token, forbidden or not, behind the first of the new ones: (texts, vocabulary).

    ``mask``, shape (new, all): 0 where a new token sees another, very little where it does not. ``past_keys.i`` and
    ``past_values.i``, shape (texts, HEADS, past, WIDTH): what is remembered of the tokens before, which ``keys.i`` and
    ``values.i`` hold with the new ones. And what the encoder found.
    """
    graph = _Graph(weights)
    inputs: dict[str, tuple[int | str, ...]] = {"x": ("texts", "new", SIZE), "mask": ("new", "all")}
    x = "x"
    for number in range(layers(weights, "decoder")):
        inputs |= dict.fromkeys((f"past_keys.{number}", f"past_values.{number}"), ("texts", HEADS, "past", WIDTH))
        inputs |= {
            f"heard_keys.{number}": (1, HEADS, WIDTH, "n"),
            f"heard_values.{number}": (1, HEADS, "n", WIDTH),
        }
        layer = f"decoder/layer_{number}"
        normal = graph.norm(x, f"{layer}/self_attention/layer_norm")
        joined = graph.linear(normal, f"{layer}/self_attention/linear_0")
        queries, keys, values = graph.nodes("Split", 3, joined, axis=2)
        all_keys = graph.node("Concat", f"past_keys.{number}", graph.heads(keys), axis=2)
        all_values = graph.node("Concat", f"past_values.{number}", graph.heads(values), axis=2)
        graph.result(all_keys, f"keys.{number}")
        graph.result(all_values, f"values.{number}")
        turned = graph.node("Transpose", all_keys, perm=[0, 1, 3, 2])
        seen = graph.attention(graph.queries(queries), turned, all_values, "mask")
        x = graph.node("Add", x, graph.linear(graph.joined(seen), f"{layer}/self_attention/linear_1"))
        # Every text hears the same sound, and the tokens of a text hear it by themselves: all are one sequence.
        normal = graph.norm(x, f"{layer}/attention/layer_norm")
        asking = graph.node("Reshape", graph.linear(normal, f"{layer}/attention/linear_0"), graph.integers(1, -1, SIZE))
        heard = graph.attention(graph.queries(asking), f"heard_keys.{number}", f"heard_values.{number}")
        heard = graph.node("Reshape", graph.joined(heard), graph.node("Shape", x))
        x = graph.node("Add", x, graph.linear(heard, f"{layer}/attention/linear_2"))
        x = graph.feed_forward(x, f"{layer}/ffn")
    logits = graph.linear(graph.norm(x, "decoder/layer_norm"), "decoder/embeddings")
    first = graph.node("Gather", logits, graph.constant(np.array(0)), axis=1)
    graph.result(graph.node("Softmax", first, axis=-1), "first")
    allowed = np.zeros(len(weights["decoder/embeddings/weight"]), np.float32)
    allowed[forbidden] = -np.inf
    likelihoods = graph.node("LogSoftmax", graph.node("Add", logits, graph.constant(allowed)), axis=-1)
    best, tokens = graph.nodes("TopK", 2, likelihoods, graph.integers(CANDIDATES), axis=-1)
    graph.result(best, "likelihoods")
    graph.result(tokens, "tokens", TensorProto.INT64)
    return graph.serialised(inputs)


class _Graph:
    """One under construction. A value is known by its name; of the weights, ``name`` is the path of a part."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._results: list[ValueInfoProto] = []

    def floats(self, name: str) -> Floats:
        return self._weights[name].astype(np.float32)

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant {len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        [name] = self.nodes(operator, 1, *inputs, **attributes)
        return name

    def nodes(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [f"{len(self._nodes)} {operator} {number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def result(self, value: str, name: str, kind: int = TensorProto.FLOAT) -> None:
        """Make a value an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._results.append(helper.make_tensor_value_info(name, kind, None))

    def serialised(self, inputs: dict[str, tuple[int | str, ...]]) -> bytes:
        """The model, with these inputs and their shapes."""
        known = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
        graph = helper.make_graph(self._nodes, "whisper", known, self._results, self._constants)
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", CONTRIB)]
        return bytes(helper.make_model(graph, opset_imports=versions, ir_version=IR).SerializeToString())

    def linear(self, x: str, name: str) -> str:
        weights = self.floats(f"{name}/weight")
        scales = np.maximum(weights.max(1), -weights.min(1)) / np.float32(LARGEST)
        np.rint(np.divide(weights, scales[:, np.newaxis], out=weights), out=weights)  # the largest has 100 MB
        small = self.constant(np.ascontiguousarray(weights.astype(np.int8).T))
        loudest = self.node("ReduceMax", self.node("Abs", x), axes=[-1], keepdims=1)
        step = self.node("Mul", loudest, self.constant(np.array([1 / LARGEST], np.float32)))
        step = self.node("Max", step, self.constant(np.array([1e-8], np.float32)))  # of nothing but noughts
        rounded = self.node("Round", self.node("Div", x, step))
        shifted = self.node("Add", rounded, self.constant(np.array([MIDDLE], np.float32)))
        unsigned = self.node("Cast", shifted, to=TensorProto.UINT8)
        nought = self.constant(np.array(MIDDLE, np.uint8))
        product = self.node("Cast", self.node("MatMulInteger", unsigned, small, nought), to=TensorProto.FLOAT)
        # Both scales in one would be taken for one of the whole sound by an optimiser of ONNX Runtime.
        product = self.node("Mul", self.node("Mul", product, self.constant(scales)), step)
        if f"{name}/bias" not in self._weights:
            return product
        return self.node("Add", product, self.constant(self.floats(f"{name}/bias")))

    def convolution(self, x: str, name: str, stride: int) -> str:
        weights, bias = (self.constant(self.floats(f"{name}/{part}")) for part in ("weight", "bias"))
        return self.node("Conv", x, weights, bias, kernel_shape=[3], pads=[1, 1], strides=[stride])

    def norm(self, x: str, name: str) -> str:
        gamma, beta = (self.constant(self.floats(f"{name}/{part}")) for part in ("gamma", "beta"))
        return self.node("LayerNormalization", x, gamma, beta, epsilon=1e-5)

    def gelu(self, x: str) -> str:
        return self.node("Gelu", x, domain="com.microsoft")

    def feed_forward(self, x: str, name: str) -> str:
        wide = self.gelu(self.linear(self.norm(x, f"{name}/layer_norm"), f"{name}/linear_0"))
        return self.node("Add", x, self.linear(wide, f"{name}/linear_1"))

    def heads(self, x: str) -> str:
        """From (texts, n, SIZE) to (texts, HEADS, n, WIDTH)."""
        return self.node("Transpose", self._split(x), perm=[0, 2, 1, 3])

    def keys(self, x: str) -> str:
        """From (texts, n, SIZE) to (texts, HEADS, WIDTH, n)."""
        return self.node("Transpose", self._split(x), perm=[0, 2, 3, 1])

    def queries(self, x: str) -> str:
        """As ``heads``, scaled."""
        return self.node("Mul", self.heads(x), self.constant(np.array([WIDTH**-0.5], np.float32)))

    def joined(self, x: str) -> str:
        """From (texts, HEADS, n, WIDTH) to (texts, n, SIZE)."""
        return self.node("Reshape", self.node("Transpose", x, perm=[0, 2, 1, 3]), self.integers(0, 0, SIZE))

    def attention(self, queries: str, keys: str, values: str, mask: str = "") -> str:
        likeness = self.node("MatMul", queries, keys)
        if mask:
            likeness = self.node("Add", likeness, mask)
        return self.node("MatMul", self.node("Softmax", likeness, axis=-1), values)

    def _split(self, x: str) -> str:
        return self.node("Reshape", x, self.integers(0, 0, HEADS, WIDTH))
