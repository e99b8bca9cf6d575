"""Every setting of a run, defined once: type, default, ranges, unit, meaning.

TOML files, command-line flags, `--help` and the preset form all come from the five classes below.

    config = Config()
    for item in settings():
        print(item.key, item.value_in(config), item.about.meaning)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec


@dataclass(frozen=True)
class Setting:
    """What a person may know of one setting; `possible` and `usual` are inclusive ranges."""

    meaning: str
    possible: tuple[float, float] | None = None
    usual: tuple[float, float] | None = None
    unit: str = ""
    too_low: str = ""
    too_high: str = ""
    flag: str = ""  # its command-line flag, where the plain name would not be unique
    aliases: tuple[str, ...] = ()
    off: float | None = None  # the value that switches the thing off: never worth a warning
    auto: str = ""  # what is chosen when the setting is left out


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a configuration file."""


Family = Literal["gpt2", "llama", "qwen3"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
ENDLESS = float("inf")


class CorpusSettings(Section, frozen=True, kw_only=True):
    """[corpus]: which text."""

    name: Annotated[
        str,
        Setting("The text to learn from: the name of a corpus, or a path to a file or folder.", flag="corpus"),
    ] = "sample"
    validation_fraction: Annotated[
        float,
        Setting(
            "Share of the text kept aside to measure progress on text the model has not seen.",
            possible=(0, 0.5),
            usual=(0.005, 0.2),
            too_low="the validation loss becomes noisy",
            too_high="little text is left to learn from",
        ),
    ] = 0.05
    test_fraction: Annotated[
        float,
        Setting(
            "Share of the text kept aside for one last measurement, looked at only when all choices are made.",
            possible=(0, 0.5),
            usual=(0, 0.2),
            too_high="little text is left to learn from",
        ),
    ] = 0.05
    mixture: Annotated[
        list[str],
        Setting(
            "Several corpora in one run, each with its share of the training: NAME:WEIGHT, as in stories:0.7.",
            flag="mix",
            auto="the one corpus alone",
        ),
    ] = []
    fix_unicode: Annotated[
        bool, Setting("Repair text that was saved in the wrong encoding, such as â€™ for an apostrophe.")
    ] = False
    deduplicate: Annotated[
        Literal["off", "exact", "near"],
        Setting("Leave out documents that come again: word for word (exact), or with small changes too (near)."),
    ] = "off"
    min_characters: Annotated[
        int,
        Setting(
            "Leave out documents shorter than this.",
            possible=(0, 1_000_000),
            usual=(1, 1000),
            unit="characters",
            off=0,
            too_high="much of the text is left out",
        ),
    ] = 0
    bpe_dropout: Annotated[
        float,
        Setting(
            "For little text: how often a merge is skipped when the training text is cut into tokens, so that the same "
            "words come in several spellings.",
            possible=(0, 0.9),
            usual=(0.05, 0.2),
            off=0,
            too_high="words fall apart into letters, as the model never sees them later",
        ),
    ] = 0.0
    bpe_dropout_copies: Annotated[
        int,
        Setting(
            "How many spellings of the training text bpe_dropout makes; one epoch reads all of them.",
            possible=(1, 100),
            usual=(2, 20),
            too_high="an epoch and the shards on disk grow as many times",
        ),
    ] = 4
    shuffle_documents: Annotated[
        bool,
        Setting("For little text: put the documents in a new order each epoch, so that neighbours differ."),
    ] = False
    random_offsets: Annotated[
        bool,
        Setting("For little text: begin each epoch's windows at another token, so that no two epochs cut alike."),
    ] = False


class TokenizerSettings(Section, frozen=True, kw_only=True):
    """[tokenizer]: how text becomes numbers."""

    kind: Annotated[
        Literal["auto", "char", "word", "bpe"],
        Setting(
            "What one token is: a character, a word, or a byte-pair piece learned from the text.",
            flag="tokenizer",
            aliases=("level",),
        ),
    ] = "auto"
    file: Annotated[
        str,
        Setting(
            "A tokenizer.json to use instead of learning one: a file, or a run whose tokenizer it is.",
            flag="tokenizer-file",
            auto="one is learned from the text",
        ),
    ] = ""
    vocab_size: Annotated[
        int,
        Setting(
            "How many different tokens to aim for (bpe and word; char takes what the text has).",
            possible=(16, 1_000_000),
            usual=(256, 65536),
            unit="tokens",
            too_low="words are cut into many pieces, so the context holds less text",
            too_high="rare tokens are seen too seldom to be learned, and the embedding grows",
        ),
    ] = 4096


class ModelSettings(Section, frozen=True, kw_only=True):
    """[model]: the network. What is left out, its family decides."""

    family: Annotated[Family, Setting("Which published architecture to follow; it sets the switches below.")] = "qwen3"
    d_model: Annotated[
        int,
        Setting(
            "Width: how many numbers describe one token inside the network.",
            possible=(8, 32768),
            usual=(64, 1024),
            too_low="the model cannot tell many things apart",
            too_high="slower, more memory, and it memorises small texts",
        ),
    ] = 128
    n_layers: Annotated[
        int,
        Setting(
            "Depth: how many blocks of attention and MLP follow one another.",
            possible=(1, 256),
            usual=(1, 24),
            too_low="no room for steps of reasoning",
            too_high="slower, and harder to train",
        ),
    ] = 4
    n_heads: Annotated[
        int,
        Setting(
            "Attention heads: how many places a token can look at, at once, in each layer.",
            possible=(1, 256),
            usual=(1, 16),
            too_low="each token attends to one thing at a time",
            too_high="each head becomes too narrow to match anything",
        ),
    ] = 4
    n_kv_heads: Annotated[
        int | None,
        Setting(
            "Key and value heads; fewer than n_heads share them (grouped-query attention) and shrink the cache.",
            possible=(1, 256),
            auto="as many as n_heads",
        ),
    ] = None
    head_dim: Annotated[
        int | None,
        Setting("Width of one attention head.", possible=(2, 1024), auto="d_model / n_heads"),
    ] = None
    d_ff: Annotated[
        int | None,
        Setting(
            "Width of the MLP's hidden layer, where much of what the model knows is stored.",
            possible=(8, 131072),
            usual=(256, 4096),
            too_low="the model remembers little",
            too_high="slower for little gain",
            auto="4 x d_model (gpt2) or 3 x d_model (llama, qwen3)",
        ),
    ] = None
    max_seq_len: Annotated[
        int,
        Setting(
            "Context: how many tokens the model sees at once.",
            possible=(2, 1_048_576),
            usual=(32, 1024),
            unit="tokens",
            too_low="it forgets how the sentence began",
            too_high="slower steps and more memory; no use beyond the length of your documents",
            aliases=("context", "block_size"),
        ),
    ] = 256
    dropout: Annotated[
        float,
        Setting(
            "Share of activations switched off at random in training, against memorising.",
            possible=(0, 0.9),
            usual=(0, 0.3),
            too_low="a small text seen many times is learned by heart",
            too_high="learning slows down",
        ),
    ] = 0.0
    tied_embeddings: Annotated[
        bool | None,
        Setting("Use one matrix both to read tokens and to predict them.", auto="yes for gpt2, else no"),
    ] = None
    norm: Annotated[
        Literal["layernorm", "rmsnorm"] | None,
        Setting("How activations are rescaled before each block.", auto="the family's"),
    ] = None
    position: Annotated[
        Literal["learned", "rope"] | None,
        Setting("How a token knows its place: a learned table, or rotation (RoPE).", auto="the family's"),
    ] = None
    activation: Annotated[
        Literal["gelu", "swiglu"] | None,
        Setting("The non-linearity of the MLP.", auto="the family's"),
    ] = None
    qk_norm: Annotated[
        bool | None,
        Setting("Normalise queries and keys, which keeps attention stable at high rates.", auto="the family's"),
    ] = None
    bias: Annotated[bool | None, Setting("Add a learned constant in every linear layer.", auto="the family's")] = None
    rope_base: Annotated[
        float,
        Setting(
            "How slowly the slowest rotation turns (RoPE): larger suits longer contexts.",
            possible=(2, 1e9),
            usual=(500, 1_000_000),
        ),
    ] = 10000.0
    norm_epsilon: Annotated[
        float | None,
        Setting(
            "A small constant that keeps the norm from dividing by zero.",
            possible=(0, 0.1),
            auto="the family's",
        ),
    ] = None


class TrainingSettings(Section, frozen=True, kw_only=True):
    """[training]: how long, how fast, how careful."""

    max_epochs: Annotated[
        int | None,
        Setting(
            "Stop after this many passes over the text. With max_steps too, the earlier of both ends the run.",
            possible=(1, 1_000_000),
            usual=(1, 100),
            unit="epochs",
            too_low="the model has not seen enough",
            too_high="it learns the text by heart",
            aliases=("epochs",),
            auto="no limit",
        ),
    ] = None
    max_steps: Annotated[
        int | None,
        Setting(
            "Stop after this many updates of the weights.",
            possible=(1, 1_000_000_000),
            unit="steps",
            aliases=("steps", "max_iters"),
            auto="no limit",
        ),
    ] = None
    batch_size: Annotated[
        int,
        Setting(
            "Windows of text in one batch. One step uses batch_size x gradient_accumulation_steps of them.",
            possible=(1, 65536),
            usual=(1, 128),
            unit="windows",
            too_low="noisy steps, idle hardware",
            too_high="fewer updates from the same text; may not fit in memory",
        ),
    ] = 16
    gradient_accumulation_steps: Annotated[
        int,
        Setting(
            "Batches added up before the weights move: a larger batch in the same memory.",
            possible=(1, 65536),
            usual=(1, 64),
            unit="batches",
            too_high="fewer updates from the same text",
        ),
    ] = 1
    micro_batch_size: Annotated[
        int | None,
        Setting(
            "Windows that pass through the network at once; changes memory and speed, not the result.",
            possible=(1, 65536),
            unit="windows",
            auto="as many as fit",
        ),
    ] = None
    optimizer: Annotated[
        Literal["muon", "adamw"],
        Setting("muon: Muon on the matrices, Adam on the rest, the fastest we know. adamw: the classic."),
    ] = "muon"
    learning_rate: Annotated[
        float,
        Setting(
            "How far Adam moves a weight in one step (with muon: embedding, head, norms).",
            possible=(0, 10),
            usual=(1e-5, 0.03),
            too_low="the loss falls very slowly",
            too_high="the loss jumps, or becomes NaN",
            aliases=("lr",),
        ),
    ] = 0.01
    muon_learning_rate: Annotated[
        float,
        Setting(
            "How far Muon moves a weight matrix in one step.",
            possible=(0, 10),
            usual=(0.001, 0.06),
            too_low="the loss falls very slowly",
            too_high="the loss stays noisy and high",
            aliases=("muon_lr",),
        ),
    ] = 0.02
    schedule: Annotated[
        Literal["wsd", "linear", "cosine", "constant"],
        Setting(
            "How the learning rate changes: wsd stays high, then falls in a line; linear and cosine fall from the "
            "start; constant stays."
        ),
    ] = "wsd"
    warmup_steps: Annotated[
        int,
        Setting(
            "Steps in which the learning rate climbs from zero.",
            possible=(0, 1_000_000),
            usual=(0, 2000),
            unit="steps",
            too_low="the first steps can be wild",
            too_high="time lost at a low rate",
        ),
    ] = 10
    decay_fraction: Annotated[
        float,
        Setting("Last share of the run in which wsd lowers the rate.", possible=(0, 1), usual=(0.1, 0.8)),
    ] = 0.6
    min_lr_fraction: Annotated[
        float,
        Setting("Where the schedule ends, as a share of the learning rate.", possible=(0, 1), usual=(0, 0.2)),
    ] = 0.0
    weight_decay: Annotated[
        float,
        Setting(
            "How strongly weight matrices are pulled towards zero, against memorising.",
            possible=(0, 10),
            usual=(0, 0.3),
            too_high="the model forgets what it learns",
        ),
    ] = 0.1
    adam_beta1: Annotated[
        float,
        Setting("Adam's memory for the direction of the gradient.", possible=(0, 0.9999), usual=(0.5, 0.95)),
    ] = 0.9
    adam_beta2: Annotated[
        float,
        Setting("Adam's memory for the size of the gradient.", possible=(0, 0.99999), usual=(0.9, 0.999)),
    ] = 0.95
    adam_epsilon: Annotated[
        float, Setting("A small constant that keeps Adam from dividing by zero.", possible=(0, 0.1))
    ] = 1e-10
    muon_momentum: Annotated[
        float,
        Setting("Muon's memory for the direction of the gradient.", possible=(0, 0.9999), usual=(0.5, 0.98)),
    ] = 0.95
    muon_iterations: Annotated[
        int,
        Setting("Newton-Schulz iterations that make Muon's update orthogonal.", possible=(1, 20), usual=(3, 8)),
    ] = 5
    max_grad_norm: Annotated[
        float,
        Setting(
            "Longer gradients are scaled down to this length; 0 switches clipping off.",
            possible=(0, 1e6),
            usual=(0.1, 10),
            off=0,
            too_low="learning slows down",
            too_high="one odd batch can throw the model off",
        ),
    ] = 1.0
    max_rollbacks: Annotated[
        int,
        Setting(
            "How often a run may go back to its last good checkpoint, and on with half the learning rate, when its "
            "numbers have gone bad; 0: it ends instead.",
            possible=(0, 1000),
            usual=(1, 10),
            off=0,
            too_high="a rate far too high is found late",
        ),
    ] = 3
    target_loss: Annotated[
        float | None,
        Setting("Stop as soon as the validation loss is this low.", possible=(0, 100), unit="nats", auto="never"),
    ] = None
    patience: Annotated[
        int | None,
        Setting(
            "Stop after this many evaluations without a better validation loss.",
            possible=(1, 100_000),
            usual=(2, 20),
            unit="evaluations",
            auto="never",
        ),
    ] = None
    seed: Annotated[int, Setting("Where all randomness starts: same seed, same run.", possible=(0, 2**63 - 1))] = 42
    eval_every: Annotated[
        int | None,
        Setting("Steps between two evaluations.", possible=(1, 10**9), unit="steps", auto="a tenth of the run"),
    ] = None
    eval_tokens: Annotated[
        int | None,
        Setting(
            "Tokens used by an evaluation during training; the last one uses the whole split.",
            possible=(1, 10**12),
            unit="tokens",
            auto="so that evaluating takes a small share of the time",
        ),
    ] = None
    save_every: Annotated[
        int | None,
        Setting(
            "Steps between two checkpoints.",
            possible=(1, 10**9),
            unit="steps",
            auto="a tenth of the run, and at least every ten minutes",
        ),
    ] = None
    sample_every: Annotated[
        int | None,
        Setting(
            "Steps between two samples of text.",
            possible=(1, 10**9),
            unit="steps",
            auto="with each evaluation",
        ),
    ] = None
    log_every: Annotated[
        int | None,
        Setting("Steps between two lines of the log.", possible=(1, 10**9), unit="steps", auto="fifty lines a run"),
    ] = None
    keep_last: Annotated[
        int,
        Setting(
            "How many step and epoch checkpoints to keep of each; best, final and interrupted stay always.",
            possible=(1, 10000),
            usual=(1, 50),
            too_high="the disk fills",
        ),
    ] = 2
    keep_every: Annotated[
        int | None,
        Setting(
            "Keep each step checkpoint whose step is a multiple of this, beside the last ones.",
            possible=(1, 10**9),
            unit="steps",
            too_low="the disk fills",
            auto="none but the last ones stay",
        ),
    ] = None
    sample_prompts: Annotated[
        list[str], Setting("Beginnings the model continues during training.", auto="taken from the corpus")
    ] = []
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], Setting("Where to compute; auto takes the fastest there is.")
    ] = "auto"
    precision: Annotated[
        Precision,
        Setting("Number format of the arithmetic; weights stay float32. auto takes what the device does fast."),
    ] = "auto"
    compile: Annotated[bool, Setting("Let torch.compile fuse the network: slower to start, often faster on a GPU.")] = (
        False
    )
    gradient_checkpointing: Annotated[
        bool, Setting("Recompute activations in the backward pass: less memory, about a third slower.")
    ] = False
    threads: Annotated[
        int | None, Setting("CPU threads for arithmetic.", possible=(1, 1024), auto="one a physical core")
    ] = None


class GenerationSettings(Section, frozen=True, kw_only=True):
    """[generation]: how the next token is chosen."""

    max_new_tokens: Annotated[
        int,
        Setting(
            "Longest continuation.",
            possible=(1, 1_000_000),
            usual=(20, 500),
            unit="tokens",
            aliases=("max_length",),
        ),
    ] = 200
    temperature: Annotated[
        float,
        Setting(
            "How adventurous: below 1 likely tokens become likelier; 0 always takes the likeliest.",
            possible=(0, 100),
            usual=(0.1, 2.0),
            off=0,
            too_low="the text repeats itself",
            too_high="the text falls apart",
        ),
    ] = 0.8
    top_k: Annotated[
        int,
        Setting("Choose among the k likeliest tokens only; 0 for all.", possible=(0, 10**6), usual=(1, 500), off=0),
    ] = 50
    top_p: Annotated[
        float,
        Setting(
            "Choose among the likeliest tokens that together have this probability; 1 for all.",
            possible=(0.001, 1),
            usual=(0.5, 1),
        ),
    ] = 0.95
    min_p: Annotated[
        float,
        Setting(
            "Leave out tokens less likely than this share of the likeliest; 0 for none.",
            possible=(0, 1),
            usual=(0.01, 0.3),
            off=0,
        ),
    ] = 0.0
    repetition_penalty: Annotated[
        float,
        Setting(
            "Make tokens that were already used less likely; 1 for no change.",
            possible=(0.1, 10),
            usual=(1, 1.5),
            too_low="the text repeats itself",
            too_high="common words are avoided and the text turns odd",
        ),
    ] = 1.0
    seed: Annotated[
        int | None,
        Setting("Same seed, same text.", possible=(0, 2**63 - 1), flag="sampling_seed", auto="a new one each time"),
    ] = None
    stop: Annotated[list[str], Setting("End the text before the first of these strings.")] = []


class Config(Section, frozen=True, kw_only=True):
    """The five sections of a run's configuration."""

    corpus: CorpusSettings = CorpusSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    generation: GenerationSettings = GenerationSettings()


@dataclass(frozen=True)
class SettingItem:
    """A setting in its place: section, name, type, default, and what is known of it."""

    section: str
    name: str
    type: Any
    default: Any
    about: Setting

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def optional(self) -> bool:
        return type(None) in get_args(self.type)

    @property
    def choices(self) -> tuple[Any, ...]:
        for part in (self.type, *get_args(self.type)):
            if get_origin(part) is Literal:
                return get_args(part)
        return ()

    @property
    def flags(self) -> tuple[str, ...]:
        names = (self.about.flag or self.name, *self.about.aliases)
        return tuple("--" + name.replace("_", "-") for name in names)

    def value_in(self, config: Config) -> Any:
        return getattr(getattr(config, self.section), self.name)


@cache
def settings() -> dict[str, SettingItem]:
    """Return every setting by its key, `section.name`, in the order of definition."""
    return {item.key: item for item in _walk()}


def _walk() -> Iterator[SettingItem]:
    for section in msgspec.structs.fields(Config):
        hints = get_type_hints(section.type, include_extras=True)
        for field in msgspec.structs.fields(section.type):
            kind, about = get_args(hints[field.name])
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield SettingItem(section.name, field.name, kind, default, about)
