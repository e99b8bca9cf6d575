"""How much memory training a network takes, by arithmetic: without torch, and before there is one.

memory_of(config.model, 1024, config.training, Placement("cpu", "float32", windows=16)).total

What is counted are the tensors that autograd keeps of each operation in `minigpt.model.gpt`, run as they stand there:
a compiled network takes less. A step has four moments at which they can be most, and `total` is the worst of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import msgspec

from minigpt.config import ModelSettings, TrainingSettings
from minigpt.model.parameters import decided, matrix_parameters, matrix_rows, parameter_count

FLOAT = 4
# A token's id as input and as target, int64 both.
_TOKEN_IDS = 16
# cuBLAS keeps this much to work in, on Hopper most of all: https://docs.nvidia.com/cuda/cublas (workspace)
CUBLAS_BYTES = 32 << 20
# Measured: Python with torch and its optimizers loaded, on Linux; a CUDA context comes on top, on the device.
PROCESS_BYTES = 360_000_000
CUDA_CONTEXT_BYTES = 500_000_000
# Measured on glibc's heap, which `tune_process` has keep what is freed: what a process takes for each byte of tensors.
# Blocks that are computed again leave holes.
HEAP_SHARE, HEAP_SHARE_CHECKPOINTING = 1.35, 2.3


@dataclass(frozen=True)
class Placement:
    """How a step meets the device: `windows` pass through the network at once, of `windows_per_step` in all.

    `plain_attention` says that attention runs as plain products, which keep the weights of every pair of tokens.
    """

    kind: str
    precision: str
    windows: int
    windows_per_step: int = 0
    plain_attention: bool = False

    @property
    def size(self) -> int:
        """Bytes a number, of those that the precision is about."""
        return FLOAT if self.precision == "float32" else 2

    @property
    def accumulates(self) -> bool:
        return self.windows_per_step > self.windows


class Memory(msgspec.Struct, frozen=True):
    """Bytes that a run takes on its device. `workspace` is what the optimizer needs for a moment.

    The parts do not all stand there at the same time: `tensors` is what they take together at the worst moment. With
    `overhead`, what the process and its allocator take beside them, that is the `total`. `available` is what the device
    has to give, where somebody has looked.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int
    tensors: int
    overhead: int
    total: int
    available: int | None = None


def memory_of(settings: ModelSettings, vocab_size: int, training: TrainingSettings, placement: Placement) -> Memory:
    """Return what training takes, its `tensors` within some percent of what torch's allocator counts."""
    parameters = parameter_count(settings, vocab_size)
    by_muon = matrix_parameters(settings) if training.optimizer == "muon" else 0
    weights = FLOAT * parameters + (placement.kind == "cuda") * CUBLAS_BYTES
    gradients, optimizer = FLOAT * parameters, FLOAT * (2 * (parameters - by_muon) + by_muon)
    workspace = _muon_workspace(settings, placement) if by_muon else 0
    passes = _Passes.of(settings, vocab_size, training.gradient_checkpointing, placement)
    worst = max(passes.worst(gradients, placement.accumulates), gradients + workspace)
    tensors = weights + optimizer + worst
    overhead = _overhead(tensors, training.gradient_checkpointing, placement)
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=passes.activations,
        workspace=workspace,
        tensors=tensors,
        overhead=overhead,
        total=tensors + overhead,
    )


@dataclass(frozen=True)
class _Passes:
    """Bytes of one forward and backward pass. `before` is what the blocks keep when the loss is reached."""

    inputs: int
    cast: int
    before: int
    block: int
    blocks: int
    loss: int
    backward: int
    residual: int
    embedding: int
    one_block_gradients: int
    tied: bool

    @classmethod
    def of(cls, settings: ModelSettings, vocab_size: int, checkpointing: bool, placement: Placement) -> _Passes:
        model, kept = decided(settings), _Kept(decided(settings), vocab_size, placement)
        tokens, embedding = placement.windows * model.max_seq_len, vocab_size * model.d_model
        residual, block = FLOAT * model.d_model * tokens, kept.block() * tokens
        matrices = matrix_parameters(settings)
        before = model.n_layers * (residual if checkpointing else block)
        return cls(
            inputs=(_TOKEN_IDS + kept.dropped()) * tokens,
            # Autocast keeps a copy of each matrix until its gradient is there.
            cast=placement.size * (matrices + embedding) if placement.size < FLOAT else 0,
            before=before,
            block=block,
            blocks=before + (block if checkpointing else 0),  # one of them is computed again
            loss=kept.loss() * tokens,
            backward=kept.backward() * tokens + FLOAT * model.d_model * (model.d_ff or 0),
            residual=residual,
            embedding=FLOAT * embedding,
            one_block_gradients=FLOAT * matrices // model.n_layers,
            tied=bool(model.tied_embeddings),
        )

    @property
    def activations(self) -> int:
        return self.inputs + self.cast + max(self.before + self.loss, self.blocks + self.backward)

    def worst(self, gradients: int, accumulates: bool) -> int:
        """Return the most that activations and gradients take together, at one of the moments named below."""
        there = gradients if accumulates else 0
        at_the_loss = self.cast + self.before + self.loss + there
        in_the_last_block = self.cast + self.blocks + self.backward + max(there, self.embedding)
        to_come = 0 if accumulates else self.one_block_gradients + self.embedding
        in_the_first_block = self.block + self.backward + gradients - to_come
        # The gradient of a tied matrix comes in two parts, the second beside the first; so does one that is added to.
        at_the_end = self.residual + gradients + (self.embedding if self.tied or accumulates else 0)
        return self.inputs + max(at_the_loss, in_the_last_block, in_the_first_block, at_the_end)


def _overhead(tensors: int, checkpointing: bool, placement: Placement) -> int:
    if placement.kind == "cuda":
        return CUDA_CONTEXT_BYTES
    share = HEAP_SHARE_CHECKPOINTING if checkpointing else HEAP_SHARE
    return PROCESS_BYTES + int((share - 1) * tensors)


@dataclass(frozen=True)
class _Kept:
    """Bytes that the backward pass needs of one token."""

    model: ModelSettings
    vocab_size: int
    placement: Placement

    def block(self) -> int:
        """What one block keeps."""
        model, size = self.model, self.placement.size
        hidden = size * (model.d_ff or 0) * (4 if model.activation == "swiglu" else 2)
        # A norm keeps its input (or that divided by its length) and some statistics; what follows keeps its output.
        norms = 2 * (FLOAT * (model.d_model + 1) + size * model.d_model)
        return norms + self._attention() + hidden + 2 * self.dropped()

    def _attention(self) -> int:
        model, size = self.model, self.placement.size
        assert model.head_dim and model.n_kv_heads
        q, kv = model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim
        rotated = model.position == "rope"
        kept = size * q  # what it gives, which the output projection keeps
        if model.qk_norm:
            copies = 1 if self.placement.kind == "cpu" or size == FLOAT else 2
            kept += FLOAT * (copies * (q + kv) + model.n_heads + model.n_kv_heads)
        weights = model.n_heads * model.max_seq_len
        on_cpu = self.placement.kind == "cpu"
        if on_cpu and model.dropout:
            # The weights, which of them were dropped, and the rest; and copies of queries, keys and values. Without a
            # kernel for it, torch computes this in float32.
            return kept + FLOAT * (3 * weights + 3 * q)
        if on_cpu and self.placement.plain_attention:
            return kept + size * (weights + 3 * q)
        kept += FLOAT * model.n_heads  # the fused kernel keeps a sum for each query, and no weights
        turned = size * (q + kv) if rotated or model.qk_norm else 0
        if q != kv:
            # Keys and values are repeated for all heads that share them.
            return kept + (turned or size * (q + 2 * kv)) + size * 2 * q
        return kept + turned + size * (q + 2 * kv)

    def dropped(self) -> int:
        """What one dropout of a token's numbers keeps: on CPUs a factor for each, else a byte."""
        if not self.model.dropout:
            return 0
        return self.model.d_model * (self.placement.size if self.placement.kind == "cpu" else 1)

    def loss(self) -> int:
        """The final norm, and three float32 numbers for each token of the vocabulary: see `GPT.loss`."""
        return (FLOAT + self.placement.size) * self.model.d_model + 3 * FLOAT * self.vocab_size

    def backward(self) -> int:
        """Gradients inside the MLP, beyond what its backward pass has freed by then."""
        inner = (2 if self.model.activation == "swiglu" else 1) * (self.model.d_ff or 0)
        return self.placement.size * inner + FLOAT * self.model.d_model


def _muon_workspace(settings: ModelSettings, placement: Placement) -> int:
    """Return what `Muon.step` holds at most: it moves all matrices of a shape as one batch."""
    size = FLOAT if placement.kind == "cpu" and placement.precision == "float32" else 2
    members: dict[tuple[int, int], int] = defaultdict(int)
    for stacked, columns in matrix_rows(settings):
        for rows in stacked:
            members[rows, columns] += settings.n_layers
    worst = before = 0
    for (rows, columns), count in members.items():
        batch, gram = count * rows * columns, count * min(rows, columns) ** 2
        # The gradient, the batch before and after an iteration, two products with itself, and the last shape's update.
        iterating = FLOAT * batch + size * (2 * batch + 2 * gram) + before
        moving = FLOAT * 2 * batch + (size * batch if size < FLOAT else 0)
        worst, before = max(worst, iterating, moving), FLOAT * batch
    return worst
