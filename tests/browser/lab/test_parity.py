"""The lab's forward pass in a real browser against PyTorch, on random sequences and switches.

What is compared: logits, patterns, losses, attributions and the parts of scores. A broken copy of
the page must be noticed by the same comparison, and by the page itself.
"""

import base64
import random

import pytest
import torch
from torch.nn.functional import cross_entropy

from course.site import lab
from minitransformer import load
from solutions.ch02_residual_stream import residual_decomposition
from solutions.ch05_finding_heads import prefix_matching_score, previous_token_score
from solutions.ch06_logit_attribution import direct_logit_attribution
from solutions.ch08_composition import (
    composition_table,
    decompose_qk_inputs,
    decompose_scores,
    token_space_composition,
)
from tests.material import seeded

CLOSE = 2e-5
EACH = 50  # sequences for each of the three models
MODELS = ["induction", "impostor", "one-layer"]
KINDS = ["logits", "patterns", "losses", "attribution", "scores"]

# In the page: everything of one case, as the bytes of float64.
RUN = """([name, cases]) => {
  const { model } = lab.models[name];
  const pack = (numbers) => {
    const bytes = new Uint8Array(Float64Array.from(numbers).buffer);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  };
  return cases.map(({ tokens, switches, head, row, token }) => {
    const { run } = lab.runBoth(model, tokens, switches);
    const patterns = Object.values(run.patterns).flatMap((pattern) => [...pattern]);
    const parts = Object.values(lab.scoreParts(model, run, head, row));
    return {
      logits: pack(run.logits), patterns: pack(patterns),
      losses: pack(lab.losses(model, run)),
      attribution: pack(Object.values(lab.attribution(model, run, row, token))),
      scores: pack(parts.flatMap((part) => [...part])),
    };
  });
}"""


def draw_cases(name: str, count: int) -> list[dict]:
    """Random tokens, in which some come again, and random switches; what is asked about them."""
    cfg, dice = load(name).cfg, random.Random(name)
    cases = []
    for _ in range(count):
        n = dice.randint(2, cfg.n_ctx)
        known = dice.sample(range(1, cfg.d_vocab), max(2, n // 2))
        tokens = [0] + [dice.choice(known) for _ in range(n - 1)]
        heads = [f"{layer}.{head}" for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]
        drawn = {head: dice.choice(["on", "on", "off", "freeze"]) for head in heads}
        switches = {head: kind for head, kind in drawn.items() if kind != "on"}
        asked = {"head": dice.choice(heads), "row": dice.randrange(n), "token": dice.choice(known)}
        cases.append({"tokens": tokens, "switches": switches} | asked)
    return cases


def switch_hooks(switches: dict[str, str], clean) -> list:
    """Off: the head's result is 0. Freeze: its pattern is that of the clean run."""
    hooks = []
    for name, kind in switches.items():
        layer, head = map(int, name.split("."))

        def off(result, hook, head=head):
            result[:, :, head] = 0
            return result

        def freeze(pattern, hook, head=head):
            pattern[:, head] = clean[hook.name][:, head]
            return pattern

        at = f"blocks.{layer}.attn.hook_"
        hooks.append((at + "result", off) if kind == "off" else (at + "pattern", freeze))
    return hooks


@torch.no_grad()
def by_pytorch(model, case: dict) -> dict[str, torch.Tensor]:
    """The same as RUN gives, each flat, in float32 as the course computes."""
    tokens, row = torch.tensor([case["tokens"]]), case["row"]
    _, clean = model.run_with_cache(tokens)
    hooks = switch_hooks(case["switches"], clean)
    logits, cache = model.run_with_cache(tokens, fwd_hooks=hooks)
    layers = range(model.cfg.n_layers)
    patterns = [cache[f"blocks.{layer}.attn.hook_pattern"][0].flatten() for layer in layers]
    asked = torch.full_like(tokens, case["token"])
    centred = model.W_U - model.W_U.mean(dim=1, keepdim=True)  # against the mean token
    attribution = direct_logit_attribution(cache, centred, asked)[:, 0, row]
    return {
        "logits": logits.flatten(),
        "patterns": torch.cat(patterns),
        "losses": cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none"),
        "attribution": attribution,
        "scores": score_parts(model, cache, case["head"], row),
    }


def score_parts(model, cache, name: str, row: int) -> torch.Tensor:
    """A head's scores at a row: [part of the key, key] and their sum, flat."""
    layer, head = map(int, name.split("."))
    _, parts = decompose_qk_inputs(cache)
    parts = parts if layer else parts[:2]  # layer 0 reads the embedding and positions alone
    terms = decompose_scores(parts, model.W_Q[layer, head], model.W_K[layer, head])
    by_key = terms.sum(dim=0)[:, 0, row, : row + 1]
    scores = cache[f"blocks.{layer}.attn.hook_attn_scores"][0, head, row, : row + 1]
    return torch.cat([by_key.flatten(), scores])


def largest_differences(page, name: str, count: int) -> dict[str, float]:
    """Between the page and PyTorch, for each kind of number; inf where one is no number."""
    cases, model = draw_cases(name, count), load(name)
    found = page.evaluate(RUN, [name, cases])
    worst = dict.fromkeys(KINDS, 0.0)
    for case, packed in zip(cases, found):
        truth = by_pytorch(model, case)
        for kind in KINDS:
            numbers = bytearray(base64.b64decode(packed[kind]))
            ours = torch.frombuffer(numbers, dtype=torch.float64)
            assert ours.shape == truth[kind].shape, f"{name}, {kind}: {ours.shape}"
            apart = (ours - truth[kind]).abs().nan_to_num(torch.inf).max().item()
            worst[kind] = max(worst[kind], apart)
    return worst


@pytest.mark.parametrize("name", MODELS)
def test_the_page_computes_what_pytorch_computes(open_page, made, name):
    worst = largest_differences(open_page(made), name, EACH)
    assert max(worst.values()) < CLOSE, worst


BROKEN = {
    "scale": {"/ Math.sqrt(d_head);\n    }\n    pattern": "/ d_head;\n    }\n    pattern"},
    "mask": {
        "new Float64Array(query + 1); //": "new Float64Array(n); //",
        "key <= query; key++) {\n      scores[key]": "key < n; key++) {\n      scores[key]",
    },
    "position": {"const placed = plus(read, model": "const placed = read.slice(); void (model"},
    "positions also in the values": {
        'times(pattern, times(read, weight(model, "W_V"': "times(pattern, times(plus(read, "
        'model.W_pos.subarray(0, n * d_model)), weight(model, "W_V"'
    },
    "order: both layers read the embedding": {"const read = stream;": "const read = embedding;"},
    "order: queries and keys exchanged": {
        "rowOf(q, query, d_head), rowOf(k, key, d_head)": "rowOf(k, query, d_head), "
        "rowOf(q, key, d_head)"
    },
    "off is ignored": {'if (switches[head] === "off") result.fill(0);': ""},
    "freeze is ignored": {'switches[head] === "freeze" && clean': "false && clean"},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_forward_pass_is_noticed(open_page, tmp_path, broken):
    target = tmp_path / "lab.html"
    target.write_text(lab.page({}, BROKEN[broken]), encoding="utf-8")
    page = open_page(target)
    worst = largest_differences(page, "induction", 10)
    assert worst["logits"] > 100 * CLOSE, worst
    assert "do not trust this page" in page.inner_text("#check")


BROKEN_PARTS = {
    "attribution": {"towards[i] = row[token] - row": "towards[i] = row[token] - 0 * row"},
    "losses": {"run.tokens.slice(1).map((next, pos)": "run.tokens.slice(0, -1).map((next, pos)"},
    "scores": {"position: model.W_pos };": "position: model.W_pos.map(() => 0) };"},
}


@pytest.mark.parametrize("kind", BROKEN_PARTS)
def test_a_broken_part_is_noticed(open_page, tmp_path, kind):
    target = tmp_path / "lab.html"
    target.write_text(lab.page({}, BROKEN_PARTS[kind]), encoding="utf-8")
    assert largest_differences(open_page(target), "induction", 10)[kind] > 100 * CLOSE


def test_habits_and_expectations_are_those_of_the_course(open_page, made):
    page = open_page(made)
    script = """([tokens, pattern]) => [lab.habits(pattern, tokens), lab.expectations(tokens)]"""
    for case in draw_cases("induction", 10):
        tokens = torch.tensor([case["tokens"]])
        n = tokens.shape[1]
        pattern = torch.randn(1, 1, n, n, generator=seeded(n)).tril().abs()
        found, expected = page.evaluate(script, [case["tokens"], pattern.flatten().tolist()])
        assert found["previous"] == pytest.approx(previous_token_score(pattern).item(), abs=1e-6)
        matching = prefix_matching_score(pattern, tokens).nan_to_num(0).item()
        assert found["induction"] == pytest.approx(matching, abs=1e-6)
        assert expected == [expectation(case["tokens"], pos) for pos in range(n - 1)]


def expectation(tokens: list[int], pos: int) -> str:
    """By the definition: all that followed earlier copies, and what follows this one."""
    followed = [tokens[i + 1] for i in range(pos) if tokens[i] == tokens[pos]]
    if not followed:
        return ""
    return "known" if set(followed) == {tokens[pos + 1]} else "surprise"


def test_the_gauge_is_that_of_chapter_8(open_page, made):
    """Both scores of all edges; a stretch moves the published one, and no logit."""
    page, model = open_page(made), load("induction").double()
    script = """([from, to, amount]) => {
      const { model } = lab.models.induction, other = lab.stretched(model, amount);
      const tokens = [0, 5, 9, 5, 9, 5], run = (each) => lab.runBoth(each, tokens, {}).run.logits;
      const [before, after] = [run(model), run(other)];
      return [lab.compositionScore(other, from, to), lab.tokenSpaceComposition(other, from, to),
        Math.max(...before.map((logit, i) => Math.abs(logit - after[i])))];
    }"""
    published, in_tokens = composition_table(model, "K"), token_space_composition(model, "K")
    for first, second in ((0, 1), (2, 1), (3, 0)):
        edge = [f"0.{first}", f"1.{second}"]
        score, nats, moved = page.evaluate(script, [*edge, 0])
        assert score == pytest.approx(published[first, second].item(), abs=1e-9)
        assert nats == pytest.approx(in_tokens[first, second].item(), abs=1e-9)
        assert moved < 1e-10
        score, nats, moved = page.evaluate(script, [*edge, 1])
        assert abs(score - published[first, second].item()) > 0.02
        assert nats == pytest.approx(in_tokens[first, second].item(), abs=1e-9)
        assert moved < 1e-10


def test_the_parts_are_those_of_the_stream(open_page, made):
    """The names that the page gives to what it adds up."""
    _, cache = load("induction").run_with_cache(torch.tensor([[0, 1]]))
    labels, _ = residual_decomposition(cache)
    names = open_page(made).evaluate(
        "Object.keys(lab.runBoth(lab.models.induction.model, [0, 1], {}).run.parts)"
    )
    assert names == ["embedding", *labels[1:]]
