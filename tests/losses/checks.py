"""The page of the docs that says which check of the contract each loss passed.

`python -m tests.losses.checks` runs all of tests/losses, slow ones included, and writes it.
"""

import pathlib
import sys
from collections import defaultdict

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/checks.md"
DESCRIPTIONS = {
    "test_the_order_of_a_sides_rows_does_not_matter": "invariant to permuting the rows of one side",
    "test_places_do_not_matter": "invariant to shifting either side",
    "test_a_common_move_and_scale_do_not_matter": "equivariant to common shifts and scaling",
    "test_a_student_that_follows_its_gradient_gets_there": "gradient descent takes the student to the teacher",
    "test_modalities_that_agree_have_nothing_to_learn": "zero loss and gradient if the modalities agree",
    "test_a_modality_that_contradicts_the_others_weighs_less": "less weight for contradicting modalities",
    "test_a_modality_that_is_not_there_says_nothing": "absent modalities have no effect",
    "test_what_stands_at_padding_changes_nothing": "values at padding have no effect",
    "test_another_kind_of_array": "an error for a wrong dtype",
    "test_another_rank": "an error for a wrong rank",
    "test_axes_that_do_not_agree": "an error for mismatched axes",
    "test_no_array_at_all": "an error for inputs that are not arrays",
    "test_arguments_it_does_not_have_or_lacks": "an error for unknown and missing arguments",
    "test_numbers_out_of_range": "an error for hyperparameters out of range",
    "test_numbers_of_another_shape": "an error for hyperparameters of the wrong shape",
    "test_words_that_are_not_offered": "an error for unknown options",
    "test_labels_out_of_range": "an error for labels out of range",
    "test_a_term_says_the_same": "`term` raises the same errors",
    "test_relations_know_no_basis_and_no_length": "invariant to rotation and scale of the embeddings",
    "test_images_and_texts_count_alike": "symmetric in images and texts",
    "test_value_by_hand": "a value worked out by hand",
    "test_without_compiling": "the same without jit",
    "test_formula": "the paper's formula in NumPy, in float64",
    "test_gradients_are_finite_differences": "gradients agree with finite differences",
    "test_half_precision_is_computed_in_float32": "half precision is computed in float32",
    "test_a_population_is_a_loop": "vmap over a population equals a loop",
    "test_where_is_removal": "rows under `where=False` have no effect, as if removed",
    "test_one_valid_row_and_none": "finite with one valid row or none",
    "test_devices_see_each_others_rows": "two devices gather each other's rows",
    "test_a_student_equal_to_its_teacher_has_nothing_to_learn": "zero loss and gradient if student equals teacher",
    "test_huge_inputs": "finite for huge inputs",
    "test_hessians_at_any_gap": "no NaN in second derivatives at any logit gap",
    "test_classes_at_minus_infinity_in_both_are_removed": "classes at −inf in both are ignored",
    "test_a_class_at_minus_infinity_on_one_side_gives_no_nan": "no NaN with a class at −inf on one side",
    "test_a_row_without_a_class_gives_no_nan": "no NaN in a row with all classes at −inf",
    "test_tiny_and_huge_rows_have_a_direction": "finite for rows with tiny or huge norms",
    "test_zero_rows": "finite, with bounded gradients, at zero rows",
    "test_duplicate_rows": "finite, with bounded gradients, at duplicate rows",
    "test_a_model_fused_in": "stable if the compiler fuses the model into the loss",
    "test_opposite_rows": "finite at opposite rows",
    "test_a_batch_of_one": "finite for a batch of one row",
    "test_a_term_of_it_is_one_number_with_a_gradient": "a term reduces to one number with a gradient",
    "test_a_column_beside_a_vector_is_refused": "an error for [b, 1] with [b]",
    "test_losses_of_logits_are_losses_of_tokens_under_a_mask": "losses on logits also apply to tokens under a mask",
    "test_all_classes_are_the_full_loss": "the full loss from top-k records of all classes",
    "test_fewer_classes_are_a_lower_bound_that_rises_with_them": "a lower bound, increasing with k, from top-k records",
    "test_a_tail_that_underflows_keeps_value_and_gradient": "finite if the tail of a top-k record underflows",
}
"""Check -> its description on the page; other checks are described by their names."""


class Passed:
    """A plugin of pytest: (check, loss) -> how many rows passed.

    The rows are imported late: the checker of types wants to see our package come in.
    """

    def __init__(self):
        self.count = defaultdict(int)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" or not report.passed or "[" not in report.nodeid:
            return
        from tests.losses.cases import CASES

        check, _, row = report.nodeid.split("::")[-1].removesuffix("]").partition("[")
        # some checks have a parameter of their own before the row's name
        loss = next((CASES[r].loss.__name__ for r in (row, row.partition("-")[2]) if r in CASES), None)
        if loss:
            self.count[check, loss] += 1


def described(check: str) -> str:
    """The description of a check, by default its name in words."""
    return DESCRIPTIONS.get(check, check.removeprefix("test_").replace("_", " "))


def page(count) -> str:
    """The table, a column for each check."""
    from tests.losses.cases import CASES

    checks = list(dict.fromkeys(check for check, _ in count))
    rows = list(dict.fromkeys(c.loss.__name__ for c in CASES.values()))
    total = {c: sum(count.get((c, r), 0) for r in rows) for c in checks}
    lines = [
        "# Checks passed by each loss",
        "",
        f"{len(rows)} losses, {len(CASES)} test cases (variants of a loss have separate ones), "
        f"{sum(total.values())} checks passed. The table counts test cases; it is empty where a check does not apply, "
        "such as a class at −inf for a loss on features. Losses that couple rows also run on eight virtual devices: "
        "`pytest tests/sharded/test_losses.py`. `python -m tests.losses.checks` generates this page.",
        "",
        *(f"{i}. {described(c)}: {total[c]}" for i, c in enumerate(checks, 1)),
        "",
        f"| loss | {' | '.join(str(i + 1) for i in range(len(checks)))} |",
        f"| --- | {' | '.join(['---:'] * len(checks))} |",
        *(f"| `{r}` | {' | '.join(str(count.get((c, r), '')) for c in checks)} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    passed = Passed()
    if code := pytest.main(["-q", "-m", "", str(pathlib.Path(__file__).parent)], plugins=[passed]):
        sys.exit(code)  # the page tells of what passed, so nothing may have failed
    PAGE.write_text(page(passed.count))
