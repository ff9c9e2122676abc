"""A network of this package as an OpenVINO graph: its own `forward`, played to `GraphTensor`s.

A `GraphTensor` stands where `forward` expects a tensor: torch hands it what it is asked to compute
(https://docs.pytorch.org/docs/stable/notes/extending.html), and it adds that to the graph.
So a network is formulated once, as a torch module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_wsiseg.models.runtimes import openvino


class GraphTensor:
    """What a node of the graph computes, in the manners of a torch tensor.

    Parameters
    ----------
    node
        Of a fixed shape. Of several outputs, the first counts.
    """

    def __init__(self, node: Any) -> None:
        self.output = node.output(0)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """What torch calls in place of its `function`."""
        if function not in _FUNCTIONS:
            raise NotImplementedError(f"{function.__name__} has no counterpart in the graph.")
        return cls(_FUNCTIONS[function](*args, **(kwargs or {})))

    @property
    def shape(self) -> tuple[int, ...]:
        """As a tensor's."""
        return tuple(self.output.shape)

    def dim(self) -> int:
        """As a tensor's."""
        return len(self.shape)

    def permute(self, *order: int) -> Self:
        """As a tensor's."""
        return type(self)(_ops().transpose(self.output, np.array(order)))

    def to(self, dtype: torch.dtype) -> Self:
        """As a tensor's, to float32."""
        assert dtype == torch.float32  # noqa: S101 - no network of ours asks for more
        return type(self)(_ops().convert(self.output, openvino().Type.f32))

    def float(self) -> Self:
        """Already so: in what the processor computes is said when the graph is compiled."""
        return self

    def div(self, by: int) -> Self:
        """As a tensor's."""
        return type(self)(_ops().divide(self.output, np.float32(by)))

    def __add__(self, other: Self) -> Self:
        return type(self)(_ops().add(self.output, other.output))

    add_ = __add__

    def __getitem__(self, key: tuple[Any, slice, slice]) -> Self:
        """The part in `(..., rows, columns)`, slices with both ends."""
        _, rows, columns = key
        starts, stops = (rows.start, columns.start), (rows.stop, columns.stop)
        if (*starts, *stops) == (0, 0, *self.shape[-2:]):
            return self
        bounds = (starts, stops, (1, 1), (-2, -1))
        return type(self)(_ops().slice(self.output, *map(np.array, bounds)))


def graph_of(network: Callable[..., Any], shape: Sequence[int], *args: object) -> Any:
    """The `openvino.Model` of `network(patches, *args)`.

    Parameters
    ----------
    network
        A network on the CPU, in float32, whose `forward` does no more than `GraphTensor` knows.
        The graph shares the memory of its weights.
    shape
        Of the patches: (N, H, W, 3), uint8.
    """
    patches = _ops().parameter(list(shape), openvino().Type.u8)
    answer = network(GraphTensor(patches), *args)
    return openvino().Model([_ops().result(answer.output)], [patches], "network")


def shorten_sums(model: Any, longest: int) -> None:
    """Let each convolution add up at most so many products at once, in place.

    The channels go through in equal parts, whose sums are added. What float32 rounds away grows
    with the length of a sum.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        x, weight = node.input_value(0), node.input_value(1).get_node().data
        channels = max(1, longest // weight[0, 0].size)
        parts = -(-weight.shape[1] // channels)
        if parts > 1:
            total = _in_parts(x, np.array_split(weight, parts, axis=1), node.get_attributes())
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(total.output(0))


def _in_parts(x: Any, weights: Sequence[NDArray[np.float32]], how: Mapping[str, Any]) -> Any:
    """The sum of the convolutions of as many channels as each weight has."""
    channels = _ops().variadic_split(x, np.int64(1), np.array([w.shape[1] for w in weights]))
    total = None
    for part, weight in zip(channels.outputs(), weights, strict=True):
        answer = _ops().convolution(
            part,
            _ops().constant(weight.copy(), shared_memory=True),
            *(how[name] for name in ("strides", "pads_begin", "pads_end", "dilations")),
        )
        total = answer if total is None else _ops().add(total, answer)
    return total


def _ops() -> Any:
    return openvino().opset13


def _constant(tensor: Tensor) -> Any:
    # Arrays that are not wrapped are taken over a number at a time.
    return _ops().constant(tensor.detach().contiguous().numpy(), shared_memory=True)


def _pair(value: int | tuple[int, int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _conv2d(
    x: GraphTensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Any:
    assert groups == 1  # noqa: S101 - no network of ours asks for more
    pads = _pair(padding)
    answer = _ops().convolution(
        x.output, _constant(weight), _pair(stride), pads, pads, _pair(dilation)
    )
    return answer if bias is None else _ops().add(answer, _constant(bias.reshape(1, -1, 1, 1)))


def _batch_norm(
    x: GraphTensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    del momentum  # of use in training alone
    assert not training  # noqa: S101 - no network of ours asks for more
    numbers = map(_constant, (weight, bias, running_mean, running_var))
    return _ops().batch_norm_inference(x.output, *numbers, eps)


def _relu(x: GraphTensor, inplace: bool = False) -> Any:
    del inplace  # for OpenVINO to decide
    return _ops().relu(x.output)


def _max_pool2d(
    x: GraphTensor,
    kernel_size: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    *_: object,
    **__: object,
) -> Any:
    pads = _pair(padding)
    return _ops().max_pool(x.output, _pair(stride), _pair(dilation), pads, pads, _pair(kernel_size))


def _interpolate(
    x: GraphTensor,
    size: None,
    scale_factor: float,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *_: object,
    **__: object,
) -> Any:
    assert (size, bool(align_corners)) == (None, False)  # noqa: S101 - no network of ours asks for more
    how, grid = {
        "nearest": ("nearest", "asymmetric"),
        "bilinear": ("linear_onnx", "pytorch_half_pixel"),
    }[mode]
    return _ops().interpolate(
        x.output,
        np.full(2, scale_factor, np.float32),
        how,
        "scales",
        coordinate_transformation_mode=grid,
        nearest_mode="floor",
        axes=np.array([2, 3]),
    )


def _pad(
    x: GraphTensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Any:
    assert mode == "constant"  # noqa: S101 - no network of ours asks for more
    left, right, top, bottom = pad
    begin, end = np.array([0, 0, top, left]), np.array([0, 0, bottom, right])
    return _ops().pad(x.output, begin, end, mode, np.float32(value or 0))


def _softmax(x: GraphTensor, dim: int) -> Any:
    return _ops().softmax(x.output, dim)


_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.batch_norm: _batch_norm,
    F.conv2d: _conv2d,
    F.interpolate: _interpolate,
    F.max_pool2d: _max_pool2d,
    F.pad: _pad,
    F.relu: _relu,
    torch.softmax: _softmax,
}
