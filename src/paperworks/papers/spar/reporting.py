"""The report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paperworks import runs
from paperworks.papers.spar import figures
from paperworks.papers.spar.config import Config
from paperworks.papers.spar.models import bundled, refiner_name
from paperworks.papers.spar.pairs import similarity
from paperworks.papers.spar.play import Game
from paperworks.papers.spar.scores import check_response
from paperworks.papers.spar.selfplay import RoundResult

Cell = runs.report.Cell
SCORES = ("P_S", "I_S", "P_L", "I_L", "avg")
SCORE_NAMES = ("prompts, strict", "instructions, strict", "prompts, loose", "instructions, loose", "mean of the four")
SHOWN_TREES, SHOWN_REPAIRS, LONGEST = 4, 6, 220


def report(config: Config, run: runs.Run, game: Game) -> runs.Report:
    """Everything that the run found."""
    pairs = sum(len(_chosen(game, one)) for one in game.results)
    tables = [_scores_table(game), _rounds_table(game), _training_table(game), _judges_table(game)]
    tables += [_inference_table(game), _repairs_table(game), _overlap_table(config, game)]
    metrics, labels = _metrics(game, pairs)
    return runs.Report(
        headline=_headline(game, pairs),
        lead=[*game.inputs.lead, *_lead(config, game)],
        metrics=metrics,
        labels=labels,
        tables=[table for table in tables if table is not None],
        figures=_figures(game),
        files=_files(game),
        notes=_notes(config, game),
    )


def _chosen(game: Game, one: RoundResult) -> Sequence[dict[str, Any]]:
    return one.pairs if game.config.pairs == "refinement" else one.independent


def _names(game: Game) -> list[str]:
    return ["before"] + [f"round {n}" for n in range(1, len(game.scored))]


def _headline(game: Game, pairs: int) -> str:
    rounds = f"{len(game.results)} round{'s' * (len(game.results) > 1)}"
    made = f"{pairs} verified pair{'s' * (pairs != 1)}" if game.judge != "model" else f"{pairs} pairs"
    first, last = game.scored[0], game.scored[-1]
    if first.scores and len(game.scored) > 1:
        return (
            f"Instructions obeyed on {len(first.answers)} test prompts (IFEval's mean of four): "
            f"{100 * first.scores['avg']:.0f} % before, {100 * last.scores['avg']:.0f} % after {rounds} of self-play; "
            f"{made}"
        )
    if first.answers and len(game.scored) > 1:
        return (
            f"The judge passes {100 * first.passed:.0f} % of the answers to {len(first.answers)} test prompts before "
            f"and {100 * last.passed:.0f} % after {rounds} of self-play; {made}"
        )
    searched = sum(len(one.results) for one in game.results)
    repaired = sum(found.success for one in game.results for found in one.results.values())
    return f"{made} from {rounds} of self-play; {repaired} of {searched} failing responses were repaired by search"


def _lead(config: Config, game: Game) -> list[str]:
    kinds = {"editor": "a program that edits with noise", "same": "the actor's model", "endpoint": "an endpoint"}
    refiner = kinds.get(refiner_name(config), refiner_name(config))
    judges = {"rule": "programs, instruction by instruction", "model": "votes of the refiner"}
    judge = judges.get(game.judge, "programs, and votes of the refiner for what passes them")
    lines = [f"Repairs by {refiner}; judged by {judge}."]
    if bundled(config):
        lines.append(
            "The actor is the bundled model of 5.7 million parameters, which writes glosses and knows no instructions: "
            "what it learns here is to obey the few that the prompts have in common."
        )
    if game.started is not None:
        lines.append(f"Before the first round the actor was tuned on {game.started.examples} chats (stage 0).")
    empty = [n for n, one in enumerate(game.results, 1) if not _chosen(game, one)]
    if empty:
        lines.append(f"No pair in round {', '.join(map(str, empty))}: the actor was not tuned there.")
    if config.endpoint and config.train:
        lines.append("The actor is behind an endpoint and cannot be tuned: train your model on dpo.jsonl.")
    unread = [v for one in game.results for j in one.judged for g in j.judgements for v in g.votes]
    if -1 in unread:
        lines.append(f"{100 * unread.count(-1) / len(unread):.0f} % of the judge's votes could not be read.")
    cut = sum(one.shortened for one in [*game.tuned, *game.refiners] if one is not None)
    if cut:
        lines.append(f"{cut} training texts were longer than the model or max_length allows and lost their end.")
    return lines


def _metrics(game: Game, pairs: int) -> tuple[dict[str, float], dict[str, str]]:
    first, last = game.scored[0], game.scored[-1]
    tuned = len(game.scored) > 1  # otherwise there is no after
    metrics: dict[str, float] = {}
    labels: dict[str, str] = {}
    if first.scores:
        metrics |= {f"{name} before": first.scores[name] for name in SCORES}
        labels |= {"avg before": "obeyed before, share"}
    elif first.answers:
        metrics |= {"passed before": first.passed}
        labels |= {"passed before": "passed by the judge before, share"}
    if first.scores and tuned:
        metrics |= {f"{name} after": last.scores[name] for name in SCORES}
        labels |= {"avg after": "obeyed after, share"}
    elif first.answers and tuned:
        metrics |= {"passed after": last.passed}
        labels |= {"passed after": "passed after, share"}
    metrics["pairs"] = float(pairs)
    labels["pairs"] = "preference pairs"
    rows = [row for one in game.results for row in one.pairs]
    if rows:
        metrics["similarity of refined pairs"] = float(similarity(rows).mean())
        labels["similarity of refined pairs"] = "similarity of chosen and rejected, 0 to 1"
    other = [row for one in game.results for row in one.independent]
    if other:
        metrics["similarity of independent pairs"] = float(similarity(other).mean())
    if game.comparison is not None:
        for name in game.comparison.attempts:
            metrics[f"{name}, prompts passed"] = float(game.comparison.curve(name)[-1])
    return metrics, labels


def _scores_table(game: Game) -> runs.Table | None:
    if not game.inputs.test:
        return None
    rows: list[list[Cell]] = []
    for name, one in zip(_names(game), game.scored, strict=True):
        cells = [100 * one.scores[key] for key in SCORES] if one.scores else [None] * len(SCORES)
        rows.append([name, *cells, 100 * one.passed])
    return runs.Table(
        f"What the actor obeys, % of {len(game.inputs.test)} test prompts",
        ["actor", *SCORE_NAMES, "passed by the judge"],
        rows,
        "Greedy answers. Loose: one of eight variants obeys (without first or last line, without stars). In the paper "
        "LLaMA3-8B rises from 77.9 to 80.3, 81.1 and 81.8 on IFEval (mean of the four).",
    )


def _rounds_table(game: Game) -> runs.Table:
    rows: list[list[Cell]] = []
    for number, one in enumerate(game.results, 1):
        labels = [j.label for judged in one.judged for j in judged.judgements]
        searched = list(one.results.values())
        repairs = [found.n_generated for found in searched]
        rows.append(
            [
                number,
                len(one.judged),
                100 * labels.count(1) / len(labels),
                labels.count(-1),
                len(searched),
                sum(found.success for found in searched),
                sum(repairs) / len(repairs) if repairs else None,
                len(one.pairs),
                float(similarity(one.pairs).mean()) if one.pairs else None,
                float(similarity(one.independent).mean()) if one.independent else None,
                len(one.refiner_rows),
            ]
        )
    columns = ["round", "prompts", "responses passed, %", "without majority", "searches", "repaired"]
    columns += ["repairs each", "pairs", "similarity", "of independent pairs", "chats for the refiner"]
    return runs.Table(
        "Self-play",
        columns,
        rows,
        "A search begins with one failing response of a prompt. Similarity of chosen and rejected by difflib; the "
        "paper has about 0.90, and 0.85 for independent pairs.",
    )


def _training_table(game: Game) -> runs.Table | None:
    rows: list[list[Cell]] = []
    for kind, trainings in (("actor, DPO", game.tuned), ("refiner, SFT", game.refiners)):
        for number, one in enumerate(trainings, 1):
            if one is not None and one.losses:
                facts = [one.facts.get(f"pairs with a higher chosen response {when}") for when in ("before", "after")]
                shown = [None if fact is None else 100 * fact for fact in facts]
                rows.append([kind, number, one.examples, len(one.losses), one.losses[0], one.losses[-1], *shown])
    if not rows:
        return None
    columns = ["model", "round", "examples", "steps", "first loss", "last loss"]
    columns += ["chosen likelier before, %", "chosen likelier after, %"]
    return runs.Table("Training", columns, rows, "The loss of DPO begins at ln 2 plus the weight times the SFT term.")


def _judges_table(game: Game) -> runs.Table | None:
    """The run's own judge beside the rules, where it is another one and prompts can be verified."""
    if game.judge == "rule" or not any(one.prompt.instructions for r in game.results for one in r.judged):
        return None
    rows: list[list[Cell]] = []
    for number, result in enumerate(game.results, 1):
        drafts = [
            (judgement.label == 1, all(check_response(one.prompt, text).strict))
            for one in result.judged
            if one.prompt.instructions
            for text, judgement in zip(one.responses, one.judgements, strict=True)
            if judgement.value is not None
        ]
        prompts = {one.prompt.id: one.prompt for one in result.judged}
        repairs = [
            (found.success, all(check_response(prompts[name], found.best_response).strict))
            for name, found in result.results.items()
            if prompts[name].instructions
        ]
        for kind, both in (("responses", drafts), ("repairs", repairs)):
            if both:
                own, rule = (100 * sum(values) / len(both) for values in zip(*both, strict=True))
                same = 100 * sum(a == b for a, b in both) / len(both)
                rows.append([number, kind, len(both), own, rule, own - rule, same])
    columns = ["round", "of", "judged", "passed by the run's judge, %", "by the rules, %", "difference", "agreement, %"]
    return runs.Table(
        "The run's judge beside the rules",
        columns,
        rows,
        "A judge that chose the repairs rates them too high: in the paper 90.5 % by itself and 79.0 % by GPT-4o.",
    )


def _inference_table(game: Game) -> runs.Table | None:
    if game.comparison is None:
        return None
    one = game.comparison
    rows: list[list[Cell]] = []
    for name, attempts in one.attempts.items():
        curve = one.curve(name)
        mean = sum(a.generated for a in attempts) / len(attempts)
        checked = [check_response(p, a.response) for p, a in zip(one.prompts, attempts, strict=True) if p.instructions]
        verified = 100 * sum(all(c.strict) for c in checked) / len(checked) if checked else None
        rows.append([name, 100 * float(curve[-1]), verified, mean])
    return runs.Table(
        f"Search at inference: {len(one.prompts)} test prompts, at most {one.most} generated answers each",
        ["method", "passed by the judge, %", "verified by rules, %", "answers generated, mean"],
        rows,
        "All but greedy decoding begin with the same sample and stop when an answer passes. In the paper search brings "
        "LLaMA3-8B from 81.8 to 83.7 on IFEval.",
    )


def _repairs_table(game: Game) -> runs.Table | None:
    found = [
        (next(j.prompt for j in one.judged if j.prompt.id == name), result)
        for one in game.results
        for name, result in one.results.items()
        if result.success
    ][:SHOWN_REPAIRS]
    if not found:
        return None
    rows: list[list[Cell]] = [
        [_short(prompt.text), _short(one.root.response), _short(one.best_response), one.best.depth]
        for prompt, one in found
    ]
    return runs.Table("Failed responses and their repairs", ["prompt", "rejected", "chosen", "repairs in a row"], rows)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\u2026"


def _overlap_table(config: Config, game: Game) -> runs.Table | None:
    shared = game.inputs.overlaps
    if not shared:
        return None
    rows: list[list[Cell]] = [[one.id, one.benchmark_id, 100 * one.share, _short(one.example)] for one in shared[:10]]
    more = f" The first 10 of {len(shared)}." if len(shared) > 10 else ""
    return runs.Table(
        f"Training prompts that share {config.ngram} words in a row with the benchmark",
        ["prompt", "of the benchmark", "runs shared, %", "for example"],
        rows,
        f"{len(game.inputs.dropped)} of them were left out.{more}",
    )


def _figures(game: Game) -> list[runs.Figure]:
    found = []
    trees = [(name, one) for result in game.results for name, one in result.results.items()]
    # the largest that were repaired, and the largest that was not
    trees.sort(key=lambda item: (not item[1].success, -len(item[1].tree)))
    failed = [item for item in trees if not item[1].success][:1]
    trees = trees[: SHOWN_TREES - len(failed)] + failed if len(trees) > SHOWN_TREES else trees
    if len(game.scored) > 1 and game.scored[0].scores:
        keys = ("P_S", "I_S", "avg")
        lines = [[one.scores[key] for one in game.scored] for key in keys]
        labels = [SCORE_NAMES[SCORES.index(key)] for key in keys]
        found.append(runs.Figure("What the actor obeys", figures.draw_scores(_names(game), lines, labels)))
    if game.comparison is not None:
        found.append(
            runs.Figure(
                "Prompts passed by generated answers",
                figures.draw_inference(game.comparison),
                "Breadth-first search counts when its level is done, depth-first search when a node's repairs are.",
            )
        )
    if trees:
        titles = [f"{_short(name)[:40]}: {'repaired' if one.success else 'not repaired'}" for name, one in trees]
        found.append(
            runs.Figure(
                "Search trees",
                figures.draw_trees([one for _, one in trees], titles),
                "The largest trees that were repaired, and one that was not. A node is a response with the "
                "judge's value; green ones pass; the one "
                "with the thick border is returned. All are in trees.jsonl.",
            )
        )
    return found


def _files(game: Game) -> list[runs.ReportFile]:
    files = [runs.ReportFile("prompts.jsonl", "the training prompts, in IFEval's format")]
    if game.inputs.test:
        files.append(runs.ReportFile("test_prompts.jsonl", "the prompts that were scored on"))
        files += [runs.ReportFile(f"answers-{n}.jsonl", f"test answers, {name}") for n, name in enumerate(_names(game))]
    for number in range(1, len(game.results) + 1):
        files.append(
            runs.ReportFile(
                f"round-{number}", "dpo.jsonl (TRL's preference format), rft.jsonl, responses, votes, trees"
            )
        )
    if game.actor is not None:
        files.append(runs.ReportFile("actor", "the tuned actor: AutoModelForCausalLM.from_pretrained loads it"))
    if game.refiner is not None:
        files.append(runs.ReportFile("refiner", "the tuned refiner"))
    return files


def _notes(config: Config, game: Game) -> list[str]:
    count, inputs = len(game.inputs.overlaps), game.inputs
    notes = ["The prompts were compared with no benchmark: name one in benchmark to find what must not be trained on."]
    if inputs.benchmark:
        total = len(inputs.train) + len(inputs.dropped)
        said = f"{count} of {total} training prompts share {config.ngram} words in a row with {inputs.benchmark}."
        notes = [said]
    if game.judge != "rule":
        notes.append("A model that judges its own repairs is biased towards them: use the rules' column.")
    if game.response_tokens:
        notes.append(f"Responses have at most {game.response_tokens} tokens.")
    return notes
