"""Write golden fixtures: tiny random checkpoints and what Hugging Face transformers computes from them.

    python make_golden.py CASES.py OUT_DIR [NAME ...]

CASES.py defines CASES: {name: Case}. Each case becomes OUT_DIR/name/ with a normal Hugging Face model folder
(config.json, model.safetensors in the case's dtype) and

    golden.json          prompts, greedy continuations and the smallest top-1/top-2 logit margin met on the way
    golden.safetensors   in fp32: prompt<i>.logits [len, vocab], prompt<i>.hidden.<layer> [len, hidden] (0 = embeddings)
    config_transformers4.json  for rotary models: the same config in the form that transformers 4 wrote

The reference runs in fp32 on weights rounded to the stored dtype, so an engine that computes in fp32 should agree to
about 1e-5 relative, one that computes in fp16 to about 1e-2. Random weights are scaled so that logits differ clearly between
positions; seeds are tried until every greedy step has a margin of at least MIN_MARGIN and every continuation at least
MIN_DISTINCT different tokens.
Needs torch, transformers, safetensors (made with torch 2.15, transformers 5.23).
"""
import dataclasses
import importlib.util
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file

MIN_MARGIN = 0.02
MIN_DISTINCT = 6
SEEDS = 300
NEW_TOKENS = 24
PROMPT_LENGTHS = (1, 7, 23)


@dataclasses.dataclass
class Case:
    model: str                    # transformers class, e.g. "OPTForCausalLM"
    config: str                   # transformers config class
    args: dict                    # config arguments
    prompt_lengths: tuple = PROMPT_LENGTHS
    new_tokens: int = NEW_TOKENS
    scale: float = 1.0            # multiplies the random weights
    dtype: str = "float16"        # dtype of the stored weights
    note: str = ""
    min_distinct: int = MIN_DISTINCT


def randomize(model, seed, scale):
    g = torch.Generator().manual_seed(seed)
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.ndim <= 1:
                is_norm = "norm" in name.lower() or "ln_" in name or "layernorm" in name.lower()
                base = 1.0 if (is_norm and name.endswith("weight")) else 0.0
                p.copy_(base + 0.1 * torch.randn(p.shape, generator=g))
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_((0.1 if tied else 0.5) * torch.randn(p.shape, generator=g))  # tied: or each token predicts itself
            else:
                fan_in = p.shape[-1]
                p.copy_(1.2 * scale * torch.randn(p.shape, generator=g) / fan_in ** 0.5)


def round_weights(model, dtype):
    """Rounds the parameters and nothing else: model.to(dtype) would round the rotary frequencies too, which
    from_pretrained() keeps in fp32."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(dtype).float())


def forget_sequences(model):
    """Dynamic rope keeps the frequencies of the longest sequence it has seen: start afresh."""
    for module in model.modules():
        if hasattr(module, "original_inv_freq"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq = module.original_inv_freq.clone()


def decoder_golden(model, case, seed, floor):
    """The golden data and its margin; None where the margin is not above floor."""
    g = torch.Generator().manual_seed(seed + 1000)
    vocab = model.config.get_text_config().vocab_size
    meta, tensors, margin_all = [], {}, 1e9
    for i, n in enumerate(case.prompt_lengths):
        ids = torch.randint(3, vocab, (1, n), generator=g)
        forget_sequences(model)
        with torch.no_grad():
            out = model(ids, output_hidden_states=True, use_cache=False)
        tensors[f"prompt{i}.logits"] = out.logits[0].float().contiguous()
        for k, h in enumerate(out.hidden_states):
            tensors[f"prompt{i}.hidden.{k}"] = h[0].float().contiguous()
        seq, margin = ids, 1e9
        for _ in range(case.new_tokens):          # full recompute each step: independent of any cache code
            with torch.no_grad():
                logits = model(seq, use_cache=False).logits[0, -1].float()
            top = torch.topk(logits, 2)
            margin = min(margin, (top.values[0] - top.values[1]).item())
            if margin <= floor:
                return None
            seq = torch.cat([seq, top.indices[:1].view(1, 1)], 1)
        greedy = seq[0, n:].tolist()
        meta.append({"ids": ids[0].tolist(), "greedy": greedy, "minMargin": round(margin, 5)})
        if len(set(greedy)) < case.min_distinct:
            return None
        margin_all = min(margin_all, margin)
    return {"kind": "decoder", "prompts": meta}, tensors, margin_all


def encoder_golden(model, case, seed, _floor):
    g = torch.Generator().manual_seed(seed + 1000)
    cfg = model.config
    meta, tensors = [], {}
    has_types = getattr(cfg, "type_vocab_size", 0) > 1
    for i, n in enumerate(case.prompt_lengths):
        ids = torch.randint(5, cfg.vocab_size, (1, n), generator=g)
        kw = {"input_ids": ids}
        if has_types:
            types = (torch.arange(n) >= n // 2).long().view(1, -1)
            kw["token_type_ids"] = types
        with torch.no_grad():
            out = model(**kw, output_hidden_states=True)
        row = {"ids": ids[0].tolist()}
        if has_types:
            row["tokenTypeIds"] = types[0].tolist()
        logits = out.logits if hasattr(out, "logits") else out.last_hidden_state
        tensors[f"prompt{i}.logits"] = logits[0].float().contiguous()
        for k, h in enumerate(out.hidden_states):
            tensors[f"prompt{i}.hidden.{k}"] = h[0].float().contiguous()
        meta.append(row)
    return {"kind": "encoder", "prompts": meta}, tensors, 1e9


def write_transformers4_config(out):
    """The same model's config.json as transformers 4 wrote it: rope_theta and rope_scaling at the top, torch_dtype."""
    config = json.loads((out / "config.json").read_text())
    rope = config.pop("rope_parameters", None)
    if rope is None:
        return
    if "full_attention" in rope:        # Of layers with a window transformers 4 knows no more than a base.
        rope = rope["full_attention"]
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if config["model_type"] == "gpt_neox":
        config["rotary_emb_base"], config["rotary_pct"] = config["rope_theta"], config["partial_rotary_factor"]
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.44.0"
    (out / "config_transformers4.json").write_text(json.dumps(config, indent=1) + "\n")


def make(name, case, out_dir):
    out = out_dir / name
    if out.exists():
        shutil.rmtree(out)
    cls, cfg_cls = getattr(transformers, case.model), getattr(transformers, case.config)
    decoder = "CausalLM" in case.model or "LMHead" in case.model
    best = None
    for seed in range(SEEDS):
        config = cfg_cls(**case.args)
        config._attn_implementation = "eager"
        model = cls(config).eval()
        randomize(model, seed, case.scale)
        round_weights(model, getattr(torch, case.dtype))
        made = (decoder_golden if decoder else encoder_golden)(model, case, seed, best[0] if best else 0.0)
        if made is None:
            continue
        golden, tensors, margin = made
        best = (margin, seed, golden, tensors, model)
        if margin >= MIN_MARGIN:
            break
    if best is None:
        raise RuntimeError(f"no seed below {SEEDS} gives {case.min_distinct} different tokens")
    margin, seed, golden, tensors, model = best
    model.to(getattr(torch, case.dtype)).save_pretrained(out)
    for extra in ("generation_config.json",):
        (out / extra).unlink(missing_ok=True)
    write_transformers4_config(out)
    golden = {"model": case.model, "seed": seed, "weightsDtype": case.dtype, "note": case.note, **golden}
    (out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    save_file(tensors, out / "golden.safetensors")
    size = sum(f.stat().st_size for f in out.iterdir()) // 1024
    print(f"{name:28s} seed {seed:2d} margin {margin:.4f} {size} KiB")


def main():
    cases_file, out_dir, *names = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("cases", cases_file)
    cases = importlib.util.module_from_spec(spec)
    sys.modules["make_golden"] = sys.modules["__main__"]
    spec.loader.exec_module(cases)
    failed = []
    for name, case in cases.CASES.items():
        if names and name not in names:
            continue
        try:
            make(name, case, pathlib.Path(out_dir))
        except Exception as error:  # report and go on with the other cases
            failed.append(name)
            print(f"{name:28s} FAILED {type(error).__name__}: {error}")
    if failed:
        sys.exit(f"{len(failed)} failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
