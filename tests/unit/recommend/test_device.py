"""The choice of a device."""

import pytest
import torch

from jobs.training.device import precision, resolve


def test_the_cpu_infers_in_fp64() -> None:
    assert precision(resolve("cpu")) == "fp64"


def test_an_unknown_device_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="unknown device 'quantum': use auto, cpu or cuda"):
        resolve("quantum")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the message is for machines without CUDA")
def test_an_absent_device_is_never_replaced_silently() -> None:
    with pytest.raises(ValueError, match="device 'cuda' was asked for and this machine has no CUDA"):
        resolve("cuda")
