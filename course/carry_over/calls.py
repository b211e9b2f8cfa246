"""One call for each tool that takes something of a model: NAME -> call(model, material).

The model may be of any library with these names and shapes. Tools are looked up when they are
called, so with --mine they are the learner's.
"""

from collections.abc import Callable
from typing import Any

import torch

from solutions import ch01_transformer as ch01
from solutions import ch02_residual_stream as ch02
from solutions import ch03_training as ch03
from solutions import ch04_induction_behaviour as ch04
from solutions import ch05_finding_heads as ch05
from solutions import ch06_logit_attribution as ch06
from solutions import ch07_qk_ov_circuits as ch07
from solutions import ch08_composition as ch08
from solutions import ch09_ablation as ch09
from solutions import ch10_direct_and_indirect as ch10
from solutions import ch11_patching as ch11
from solutions import ch12_probes as ch12
from solutions import ch13_faithfulness as ch13
from solutions import ch14_by_hand as ch14
from solutions import ch15_arithmetic_circuits as ch15
from solutions import ch16_neurons_and_heuristics as ch16
from solutions import ch17_out_of_distribution as ch17
from solutions import ch18_blind_models as ch18

from .material import (
    INDUCTION,
    PREVIOUS,
    STREAM,
    K,
    Q,
    V,
    Z,
    ablated,
    cached,
    logits,
    one_step,
    parts,
    pattern,
    rows,
    seeded,
    stream,
    weights,
)

Call = Callable[[Any, Any], Any]
# Each name is that of an exercise; the first dict is called with Sequences, the second with Sums.
ON_INDUCTION: dict[str, Call] = {
    "attention_pattern": lambda m, x: ch01.attention_pattern(
        cached(m, x.tokens)[Q], cached(m, x.tokens)[K]
    ),
    "head_output": lambda m, x: ch01.head_output(stream(m, x), pattern(m, x), m.W_V[1], m.W_O[1]),
    "forward": lambda m, x: ch01.forward(weights(m), x.tokens),
    "forward_with_hooks": lambda m, x: ch01.forward_with_hooks(
        weights(m), x.tokens, [("stream.1", lambda stream, name: 0.5 * stream)]
    ),
    "residual_decomposition": lambda m, x: ch02.residual_decomposition(cached(m, x.tokens)),
    "rotate_head": lambda m, x: ch02.rotate_head(
        *(weights(m)[f"W_{side}"][INDUCTION] for side in "QKVO"), x.M
    ),
    "principal_angles": lambda m, x: ch02.principal_angles(m.W_V[INDUCTION].T, m.W_O[PREVIOUS]),
    "subspace_overlap": lambda m, x: ch02.subspace_overlap(m.W_V[INDUCTION].T, m.W_O[PREVIOUS]),
    "interference": lambda m, x: ch02.interference(m.W_E),
    "training_step_by_hand": one_step,
    "diagnose": lambda m, x: ch03.diagnose(m),
    "loss_by_position": lambda m, x: ch04.loss_by_position(logits(m, x), x.tokens),
    "induction_accuracy": lambda m, x: ch04.induction_accuracy(m, x.tokens, x.repeats.predictable),
    "previous_token_score": lambda m, x: ch05.previous_token_score(pattern(m, x)),
    "current_token_score": lambda m, x: ch05.current_token_score(pattern(m, x)),
    "first_token_score": lambda m, x: ch05.first_token_score(pattern(m, x)),
    "duplicate_token_score": lambda m, x: ch05.duplicate_token_score(pattern(m, x), x.tokens),
    "prefix_matching_score": lambda m, x: ch05.prefix_matching_score(pattern(m, x), x.tokens),
    "value_weighted_pattern": lambda m, x: ch05.value_weighted_pattern(
        pattern(m, x), cached(m, x.tokens)[V], m.W_O[1]
    ),
    "find_heads": lambda m, x: ch05.find_heads(m),
    "direct_logit_attribution": lambda m, x: ch06.direct_logit_attribution(
        cached(m, x.tokens), m.W_U, x.following
    ),
    "shift_unembedding": lambda m, x: ch06.shift_unembedding(m.W_U, x.u),
    "logit_difference_attribution": lambda m, x: ch06.logit_difference_attribution(
        cached(m, x.tokens), m.W_U, x.following, x.other
    ),
    "logit_lens": lambda m, x: ch06.logit_lens(cached(m, x.tokens), m.W_U),
    "component_lens": lambda m, x: ch06.component_lens(cached(m, x.tokens), m.W_U),
    "low_rank_matmul": lambda m, x: ch07.low_rank_matmul(
        m.W_V[PREVIOUS], m.W_O[PREVIOUS], m.W_V[INDUCTION], m.W_O[INDUCTION]
    ),
    "qk_matrix": lambda m, x: ch07.qk_matrix(m, *INDUCTION),
    "ov_matrix": lambda m, x: ch07.ov_matrix(m, *INDUCTION),
    "low_rank_svd": lambda m, x: ch07.low_rank_svd(m.W_V[INDUCTION], m.W_O[INDUCTION])[1],
    "low_rank_eigenvalues": lambda m, x: ch07.low_rank_eigenvalues(
        m.W_V[INDUCTION], m.W_O[INDUCTION]
    ).abs(),
    "score_from_weights": lambda m, x: ch07.score_from_weights(m, *INDUCTION, stream(m, x)),
    "position_qk_circuit": lambda m, x: ch07.position_qk_circuit(m, *PREVIOUS),
    "full_ov_circuit": lambda m, x: ch07.full_ov_circuit(m, *INDUCTION),
    "copying_accuracy": lambda m, x: ch07.copying_accuracy(ch07.full_ov_circuit(m, *PREVIOUS)),
    "copying_score": lambda m, x: ch07.copying_score(ch07.full_ov_circuit(m, *PREVIOUS)),
    "centre": lambda m, x: ch07.centre(ch07.full_ov_circuit(m, *INDUCTION)),
    "effective_ov": lambda m, x: ch07.effective_ov(m, [INDUCTION, (1, 1)]),
    "full_qk_circuit": lambda m, x: ch07.full_qk_circuit(m, *INDUCTION),
    "composition_score": lambda m, x: ch08.composition_score(
        ch07.ov_matrix(m, *PREVIOUS), ch07.ov_matrix(m, *INDUCTION)
    ),
    "composition_table": lambda m, x: ch08.composition_table(m, "K"),
    "composition_ceiling": lambda m, x: ch08.composition_ceiling(
        ch07.ov_matrix(m, *PREVIOUS), ch07.ov_matrix(m, *INDUCTION)
    ),
    "normalised_composition": lambda m, x: ch08.normalised_composition(
        ch07.ov_matrix(m, *PREVIOUS), ch07.ov_matrix(m, *INDUCTION)
    ),
    "stretch_stream": lambda m, x: ch08.stretch_stream(weights(m), x.near_one),
    "token_space_composition": lambda m, x: ch08.token_space_composition(m, "K"),
    "decompose_qk_inputs": lambda m, x: parts(m, x),
    "decompose_scores": lambda m, x: ch08.decompose_scores(
        parts(m, x), m.W_Q[INDUCTION], m.W_K[INDUCTION]
    ),
    "k_composition_circuit": lambda m, x: ch08.k_composition_circuit(m, PREVIOUS, INDUCTION),
    "path_expansion": lambda m, x: ch08.path_expansion(m, x.tokens),
    "term_importance": lambda m, x: ch08.term_importance(m, x.tokens),
    "zero_ablate": lambda m, x: ablated(m, x, ch09.zero_ablate([0, 2])),
    "mean_ablate": lambda m, x: ablated(m, x, ch09.mean_ablate([0], cached(m, x.tokens)[Z])),
    "mean_per_position_ablate": lambda m, x: ablated(
        m, x, ch09.mean_per_position_ablate([0], cached(m, x.tokens)[Z])
    ),
    "resample_ablate": lambda m, x: ablated(
        m, x, ch09.resample_ablate([0], cached(m, x.tokens)[Z], torch.arange(6).flip(0))
    ),
    "joint_ablation": lambda m, x: ch09.joint_ablation(m, x.repeats, x.heads[:3], "mean"),
    "ablation_table": lambda m, x: ch09.ablation_table(m, x.repeats),
    "pattern_preserving_ablation": lambda m, x: ch09.pattern_preserving_ablation(
        m, x.tokens, [PREVIOUS]
    ),
    "targeted_ablation": lambda m, x: ch09.targeted_ablation(m, x.tokens, [PREVIOUS], INDUCTION),
    "strict_path_model": lambda m, x: ch09.strict_path_model(
        m, x.tokens, ["embed"], ["0.0", "0.3"], ["embed"]
    ),
    "total_effect": lambda m, x: ch10.total_effect(m, x.tokens, PREVIOUS, x.metric),
    "direct_effect": lambda m, x: ch10.direct_effect(m, x.tokens, PREVIOUS, x.metric),
    "effect_ledger": lambda m, x: ch10.effect_ledger(m, x.tokens, PREVIOUS, x.metric),
    "query_and_key_effects": lambda m, x: ch10.query_and_key_effects(
        m, x.tokens, PREVIOUS, x.metric
    ),
    "causal_roles": lambda m, x: ch10.causal_roles(m, x.tokens, x.metric, least=0.1),
    "patch_cells": lambda m, x: ch11.patch_cells(
        m, x.tokens, cached(m, x.other), [[(Z, (ch11.ALL, 0))], [(STREAM, (9,))]]
    ),
    "patch_residual": lambda m, x: ch11.patch_residual(m, x.tokens, x.other),
    "patch_heads": lambda m, x: ch11.patch_heads(m, x.tokens, x.other, "z"),
    "sufficiency_and_necessity": lambda m, x: ch11.sufficiency_and_necessity(
        m, x.tokens, x.other.roll(1, dims=1), [[(STREAM, (31,))], [(Z, (31, 0))]], x.last_gap
    ),
    "compare_metrics": lambda m, x: ch11.compare_metrics(
        logits(m, x)[:, -1], logits(m, x)[:, -2], x.tokens[:, 1], x.tokens[:, 2]
    ),
    "direct_inputs": lambda m, x: sorted(
        ch11.direct_inputs(m, x.tokens, x.other, PREVIOUS).items()
    ),
    "path_patch": lambda m, x: ch11.path_patch(
        m, x.tokens, x.other, PREVIOUS, [(*INDUCTION, "k"), "logits"]
    ),
    "attribution_patch": lambda m, x: ch11.attribution_patch(
        m, x.tokens, x.other, x.last_gap, [Z, STREAM]
    ),
    "linear_probe": lambda m, x: ch12.linear_probe(rows(m, x), x.tokens.flatten() % 3, 3),
    "logistic_probe": lambda m, x: ch12.logistic_probe(
        rows(m, x), x.tokens.flatten() % 3, 3, steps=5
    ),
    "held_out_accuracy": lambda m, x: ch12.held_out_accuracy(stream(m, x), x.tokens % 3, 3),
    "probe_by_depth": lambda m, x: ch12.probe_by_depth(m, x.tokens, x.tokens % 3, 3),
    "class_means": lambda m, x: ch12.class_means(rows(m, x), x.tokens.flatten() % 3, 3),
    "erase": lambda m, x: ch12.erase(rows(m, x), x.tokens.flatten() % 3, 3),
    "steer": lambda m, x: ch12.steer(m, x.tokens, 5, x.u.expand(6, -1)),
    "run_circuit": lambda m, x: ch13.run_circuit(m, x.tokens, x.heads[2:6]),
    "right_minus_mean": lambda m, x: ch13.right_minus_mean(logits(m, x), x.repeats),
    "faithfulness": lambda m, x: ch13.faithfulness(
        m, x.repeats, [x.heads[2:], x.heads[4:]], x.of_repeats
    ),
    "greedy_path": lambda m, x: ch13.greedy_path(m, x.repeats, x.of_repeats),
    "head_attribution": lambda m, x: ch13.head_attribution(m, x.repeats, x.of_repeats),
    "find_circuit": lambda m, x: ch13.find_circuit(
        m, x.repeats, "attribution", x.of_repeats, share=0.8
    ),
    "completeness": lambda m, x: ch13.completeness(
        m, x.repeats, x.heads[2:], [[INDUCTION], [PREVIOUS]], x.of_repeats
    ),
    "minimality": lambda m, x: ch13.minimality(m, x.repeats, x.heads[3:6], x.of_repeats),
    "scrub": lambda m, x: ch14.scrub(
        m, x.tokens, ch14.Hypothesis((0,), k={"0.3": ("previous",)}), seeded()
    ),
    "sure_answers": lambda m, x: ch18.sure_answers(logits(m, x)),
    "run_changed": lambda m, x: ch18.run_changed(
        m, x.tokens, ch18.Change(zero=("0.1",), mean=("1.2",), cut=("0.3>1.0.k",))
    ),
}
ON_ARITHMETIC: dict[str, Call] = {
    "patched_answers": lambda m, x: ch15.patched_answers(m, x.rows, x.rows.flip(0), x.places),
    "mean_cache": lambda m, x: ch15.mean_cache(m, x.prompts, ["blocks.1.hook_mlp_out"]),
    "arithmetic_faithfulness": lambda m, x: ch15.arithmetic_faithfulness(
        m,
        x.rows,
        [[("blocks.1.hook_mlp_out", (3,))]],
        ch15.mean_cache(m, x.prompts, sorted({name for name, _ in ch15.answer_places(m)})),
    ),
    "probe_map": lambda m, x: ch15.probe_map(m, x.prompts, x.answers % 2, 2),
    "frozen_lens": lambda m, x: ch15.frozen_lens(
        m, cached(m, x.prompts)[STREAM], cached(m, x.prompts)["ln_final.hook_scale"]
    ),
    "ffn_deletion": lambda m, x: ch15.ffn_deletion(m, cached(m, x.prompts), 1, x.prompts),
    "neuron_contributions": lambda m, x: ch16.neuron_contributions(m, cached(m, x.prompts), 1),
    "value_logits": lambda m, x: ch16.value_logits(m, 1),
    "answer_contributions": lambda m, x: ch16.answer_contributions(
        m, cached(m, x.prompts), 1, x.answers
    ),
    "without_neurons": lambda m, x: ch16.without_neurons(m, x.prompts, x.out, x.means),
    "neuron_effects": lambda m, x: ch16.neuron_effects(m, x.prompts[:4], x.answers[:4], 256),
    "attributed_effects": lambda m, x: ch16.attributed_effects(m, x.prompts, x.answers),
    "input_log_likelihood": lambda m, x: ch17.input_log_likelihood(m, x.rows, 4),
    "corrected_run_patch": lambda m, x: ch17.corrected_run_patch(
        m, x.rows, x.rows.flip(0), x.places
    ),
}
