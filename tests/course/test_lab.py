"""The live lab without a browser: what is in the file, and whom it refuses."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest
import torch

from course import desk
from course.site import lab
from course.site.lab import experiments
from course.site.lab import lab as made_by
from minitransformer import ModelConfig, Transformer, checkpoint, load
from minitransformer.model import parameter_table
from solutions.ch08_composition import with_weights

MODELS = {name: load(name) for name in made_by.TITLES}
MODEL = MODELS["induction"]


@pytest.fixture(scope="module")
def page() -> str:
    return lab.page({})


def payload_of(page: str) -> dict:
    return json.loads(re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)[1])


# The file


def test_the_weights_are_in_the_page_bit_for_bit(page):
    for name, entry in payload_of(page)["models"].items():
        numbers = bytearray(base64.b64decode(entry["weights"]))
        flat, at = torch.frombuffer(numbers, dtype=torch.float32), 0
        for parameter, shape, _ in parameter_table(MODELS[name].cfg):
            weight = MODELS[name].get_parameter(parameter)
            found = flat[at : at + weight.numel()].view(shape)
            assert torch.equal(found, weight), f"{name}, {parameter}"
            at += weight.numel()
        assert at == len(flat)


def test_the_page_is_one_file_that_asks_for_nothing(page):
    assert "http://" not in page and "https://" not in page and "import(" not in page
    assert "default-src 'none'" in page  # the browser itself refuses all that is not in the file
    assert not re.search(r"\b(src|href)=\"(?!data:)", page)
    assert len(page.encode()) <= 700_000


class Ids(HTMLParser):
    """The ids of a page, and what its labels and descriptions point to."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.meant = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("for", "aria-labelledby"):
                self.meant.add(value)


def test_what_the_scripts_look_for_is_there(page):
    found = Ids(page)
    assert len(found.ids) == len(set(found.ids))
    asked = set(re.findall(r'find\("([\w-]+)"\)', page)) | found.meant
    assert asked <= set(found.ids), asked - set(found.ids)


def test_modules_import_what_others_export_and_names_are_unique():
    """They are joined into one script: no name may be taken twice, none may be missing."""
    exports, named = {}, []
    for name in made_by.MODULES:
        code = made_by.source(f"{name}.js")
        exports[name] = set(re.findall(r"^export (?:function|const) (\w+)", code, re.MULTILINE))
        named += re.findall(r"^(?:export )?(?:function|const|let) (\w+)", code, re.MULTILINE)
    for name in made_by.MODULES:
        code = made_by.source(f"{name}.js")
        for names, source in re.findall(r'import \{([^}]*)} from "\./(\w+)\.js"', code):
            wanted = {each.strip() for each in names.split(",")} - {""}
            assert wanted <= exports[source], f"{name}.js: {wanted - exports[source]}"
            for each in wanted:
                used = re.findall(rf"\b{each}\b", code.split("import", 1)[1])
                assert len(used) > 1, f"{name}.js imports {each} and does not use it"
    assert len(named) == len(set(named)), sorted(n for n in named if named.count(n) > 1)
    assert all("document" not in made_by.source(f"{name}.js") for name in ("model", "words"))


def test_the_sources_are_plain_and_short():
    for path in sorted(made_by.FOLDER.glob("*.[jch]*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 300, path.name
        long = [number for number, line in enumerate(lines, 1) if len(line) > 100]
        assert not long, f"{path.name}: {long}"


def test_the_picture_in_the_readme_is_small_and_as_wide_as_the_page():
    picture = (desk.ROOT / "course/figures/lab.png").read_bytes()
    assert int.from_bytes(picture[16:20]) == 1100 and len(picture) <= 250_000


def test_a_change_that_finds_nothing_is_refused():
    with pytest.raises(ValueError, match="must stand in the JavaScript once"):
        lab.page({}, {"no such line": ""})


def test_stored_logits_are_of_switched_heads_and_differ_from_unswitched(page):
    entry = payload_of(page)["models"]["induction"]
    kinds = {kind for case in entry["cases"] for kind in case["switches"].values()}
    assert kinds == {"off", "freeze"}
    for case in entry["cases"]:
        plain = MODEL(torch.tensor([case["tokens"]]))[0, -2:].flatten()
        apart = (plain - torch.tensor(case["logits"])).abs().max().item()
        assert apart > 0.1 if case["switches"] else apart < 1e-5


def test_states_name_what_the_page_knows(page):
    told = payload_of(page)
    for each in told["experiments"]:
        state = each["state"]
        model = told["models"][state.get("model", "induction")]
        assert state["head"] in [
            f"{a}.{b}" for a in range(model["cfg"]["n_layers"]) for b in range(4)
        ]
        assert len(state.get("text", "").split()) < model["cfg"]["n_ctx"]
        assert state.get("text") or state.get("period")


# A reader's model


def saved(folder, model: Transformer) -> str:
    checkpoint.save(folder / "model.pt", model)
    return str(folder)


def shuffled_heads(model: Transformer, orders: list[list[int]]) -> Transformer:
    """The same model; head orders[layer][i] of a layer is its i-th."""
    weights = dict(model.named_parameters())
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        layers = [layer[order] for layer, order in zip(weights[name].detach(), orders)]
        weights[name] = torch.stack(layers)
    return with_weights(model, weights)


def test_texts_name_the_heads_of_the_model_at_hand(tmp_path):
    """The same circuit in other heads: 0.2 and 0.3 become 0.0 and 0.1, 1.1 becomes 1.3."""
    moved = shuffled_heads(MODEL, [[2, 3, 0, 1], [0, 2, 3, 1]])
    told = payload_of(lab.page({"induction": saved(tmp_path, moved)}))
    assert told["models"]["induction"]["title"] == f"yours: {tmp_path.name}"
    assert told["models"]["induction"]["found"]["previous"] == ["0.0", "0.1"]
    by_name = {each["id"]: each for each in told["experiments"]}
    assert by_name["previous-off"]["state"]["off"] == ["0.0", "0.1"]
    assert by_name["previous-off"]["question"].startswith("Heads 0.0 and 0.1")
    assert by_name["one-less"]["state"]["off"] == ["1.3"]
    texts = " ".join(each["question"] for each in told["experiments"])
    assert set(re.findall(r"\b[01]\.\d\b", texts)) == {"0.0", "0.1", "1.3"}


def test_experiments_on_heads_that_are_not_there_say_so():
    """An impostor in the reader's place has no circuit."""
    told = experiments.experiments(MODELS | {"induction": MODELS["impostor"]})
    lacking = [each["id"] for each in told if each["question"].startswith("find_heads found no")]
    assert [each["id"] for each in told] == lab.experiment_names()
    on_circuit = [name for name, (*_, needs) in experiments.EXPERIMENTS.items() if needs]
    assert lacking == on_circuit and len(lacking) == 6
    assert all(each["answer"] or each["id"] in lacking for each in told)


REFUSED = {
    "LayerNorm": ({"layer_norm": True}, "LayerNorm"),
    "MLP": ({"d_mlp": 8}, "an MLP"),
    "smeared keys": ({"smeared_keys": True}, "smeared keys"),
    "positions": ({"positional_embedding_type": "standard"}, "positions in the residual stream"),
    "three layers": ({"n_layers": 3}, "3 layers"),
    "no layers": ({"n_layers": 0}, "0 layers"),
    "too many words": ({"n_ctx": 33}, "reads 33 words"),
    "too few words": ({"n_ctx": 12}, "reads 12 words"),
    "too few tokens": ({"d_vocab": 20}, "knows 20 tokens"),
    "many heads": ({"n_heads": 9, "d_head": 4}, "9 heads a layer"),
    "wide": ({"d_model": 512}, "weights; the lab runs at most"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_shown_is_refused(tmp_path, kind):
    config, said = REFUSED[kind]
    where = saved(tmp_path, Transformer(ModelConfig(**config)))
    with pytest.raises(ValueError, match=said) as refusal:
        lab.write(tmp_path / "lab.html", {"induction": where})
    assert str(refusal.value).endswith(".") and where in str(refusal.value)
    assert not (tmp_path / "lab.html").exists()


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    broken = Transformer(ModelConfig())
    with torch.no_grad():
        broken.W_E[3, 4] = torch.nan
    with pytest.raises(ValueError, match="no numbers"):
        lab.page({"induction": saved(tmp_path, broken)})


def test_a_model_at_the_limits_is_shown(tmp_path):
    edge = Transformer(ModelConfig(n_layers=1, n_ctx=made_by.LEAST, d_vocab=made_by.MOST))
    told = payload_of(lab.page({"induction": saved(tmp_path, edge)}))
    assert told["models"]["induction"]["cfg"]["n_ctx"] == made_by.LEAST
