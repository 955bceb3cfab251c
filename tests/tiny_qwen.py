"""Qwen's image editor and its vision-language models with tiny weights, made on the spot: the real classes, saved."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = {
    "image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>", "im_start_token": "<|im_start|>", "im_end_token": "<|im_end|>",
}  # fmt: skip
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINES = ["You judge edits of images. Make it brighter and rotate the original image by 90 degrees.", "Score: 7/10"]


def editor(folder: Path) -> Path:
    """A QwenImageEditPipeline of 0.3 million parameters, whose VAE is cheap but shrinks by 8 like the real one."""
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel

    torch.manual_seed(0)
    words = _tokenizer()
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=3,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    parts = {
        "vae": vae, "transformer": transformer, "text_encoder": _vision_language("qwen2_5_vl", words, hidden=16),
        "scheduler": FlowMatchEulerDiscreteScheduler(), "tokenizer": words, "processor": None,
    }  # fmt: skip
    for name, part in parts.items():
        if part is not None:
            part.save_pretrained(folder / name)
    _save_processor(folder / "processor", "Qwen2VLProcessor", words, patch=14)
    index = {name: [type(part).__module__.partition(".")[0], type(part).__name__] for name, part in parts.items()}
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "QwenImageEditPipeline", **index}))
    return folder


Kind = Literal["qwen3_vl", "qwen3_vl_moe", "qwen2_5_vl"]


def judge(folder: Path, kind: Kind = "qwen3_vl", says: str = "") -> Path:
    """A vision-language model of 0.2 million parameters, with its processor.

    says: a character that its generation configuration leaves it no way around, if it may write two tokens.
    """
    torch.manual_seed(0)
    words = _tokenizer()
    model = _vision_language(kind, words, hidden=32)
    if says:
        ends, config = model.generation_config.eos_token_id, model.generation_config
        config.suppress_tokens = sorted(set(range(len(words))) - {words.convert_tokens_to_ids(says), *ends})
        config.begin_suppress_tokens, config.forced_eos_token_id = ends, ends[0]
    model.save_pretrained(folder)
    name = "Qwen2_5_VLProcessor" if kind == "qwen2_5_vl" else "Qwen3VLProcessor"
    _save_processor(folder, name, words, patch=14 if kind == "qwen2_5_vl" else 16)
    return folder


def _tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE of some 270 tokens, so that no text has an unknown one."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(LINES, vocab_size=280, show_progress=False)
    state = json.loads(trained._tokenizer.to_str())["model"]
    vocabulary = {**state["vocab"], "<|endoftext|>": len(state["vocab"])}
    return Qwen2Tokenizer(
        vocab=vocabulary, merges=[tuple(each) for each in state["merges"]], extra_special_tokens=SPECIAL
    )


def _save_processor(folder: Path, name: str, words: Qwen2Tokenizer, patch: int) -> None:
    """The files of a stock processor, which cannot be made without torchvision; it is named as the real ones are."""
    pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (16 * patch) ** 2}
    Qwen2VLImageProcessorPil(size=pixels, patch_size=patch).save_pretrained(folder)
    settings = folder / "preprocessor_config.json"
    stock = {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": name}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | stock))
    words.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": name}))
    (folder / "chat_template.jinja").write_text(CHAT)


def _vision_language(kind: Kind, words: Qwen2Tokenizer, hidden: int) -> Any:
    text: dict[str, Any] = {
        "vocab_size": len(words), "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 2,
        "num_attention_heads": hidden // 8, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "pad_token_id": words.pad_token_id, "bos_token_id": words.pad_token_id, "eos_token_id": words.pad_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 2, "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_heads": 2}
    if kind == "qwen2_5_vl":
        vision |= {"out_hidden_size": hidden, "patch_size": 14, "fullatt_block_indexes": [1]}
        config, model = transformers.Qwen2_5_VLConfig, transformers.Qwen2_5_VLForConditionalGeneration
    else:
        vision |= {"out_hidden_size": hidden, "patch_size": 16, "deepstack_visual_indexes": [0, 1]}
        vision |= {"num_position_embeddings": 16}
        text |= {"head_dim": 8}
        text["rope_parameters"] |= {"mrope_interleaved": True}
        config, model = transformers.Qwen3VLConfig, transformers.Qwen3VLForConditionalGeneration
    if kind == "qwen3_vl_moe":
        text |= {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
        config, model = transformers.Qwen3VLMoeConfig, transformers.Qwen3VLMoeForConditionalGeneration
    names = ("image_token", "video_token", "vision_start_token", "vision_end_token")
    ids = {f"{name}_id": words.convert_tokens_to_ids(SPECIAL[name]) for name in names}
    made = model(config(text_config=text, vision_config=vision, **ids))
    made.generation_config.eos_token_id = [words.convert_tokens_to_ids("<|im_end|>"), words.pad_token_id]
    made.generation_config.pad_token_id = words.pad_token_id
    return made.eval()
