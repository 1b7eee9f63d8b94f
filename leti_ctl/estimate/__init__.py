"""What a run will take: pods, accelerator-hours, wall time, bytes in the store and money, each as a range.

For every unit of the graph (see `leti_ctl.pipeline`), with P the model's parameters:

    prepare   start + 2 checkpoints / store rate + pre-training tokens / tokenize rate
    generate  start + checkpoint / store rate + samples x solution tokens / (devices x generation rate)
    execute   start + samples x (1 / execution rate + timed-out share x timeout) / cores
    build     start + example tokens / tokenize rate
    train     start + state read, written and saved in between / store rate + tokens / (devices x training rate)
    evaluate  start + samples / row rate

    generation rate = decode_reuse x memory bandwidth / P      training rate = train_mfu x bf16 peak / (6 P)

unless the accelerator has rates of its own, which are scaled by parameters. On a cluster each pod's start is added and
a plan step per iteration; spot nodes repeat some work. The wall time is that of the graph's units started in order as
soon as what they wait for is done and their pool has a place; it is reckoned for all-low, all-likely and all-high
figures. Accelerators are paid from the pod's start to its end, whether all of the pod's devices compute or not.
"""

from leti_ctl.estimate.actual import actuals
from leti_ctl.estimate.advice import advice
from leti_ctl.estimate.bill import Estimate, estimate
from leti_ctl.estimate.measured import like
from leti_ctl.estimate.rates import Rates, load_rates

__all__ = ["Estimate", "Rates", "actuals", "advice", "estimate", "like", "load_rates"]
