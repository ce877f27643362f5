/** Every change the reader makes: applied here at once, kept in the outbox, undoable. */

import { batch, signal } from "../vendor/preact.mjs";
import { call, onReload } from "../shared/api.mjs";
import { Outbox, newId, newOpId } from "../shared/outbox.mjs";
import { millimetres } from "../engine/measure.mjs";
import { hasDepth, kindOf } from "../shared/kinds.mjs";
import { universal } from "../shared/teeth.mjs";
import { alarm, say } from "../shared/say.mjs";
import { may, me } from "../shared/session.mjs";
import * as at from "./store.mjs";

const DECISIONS = ["accept", "reject"];
const CONTENT = ["set_geometry", "set_class", "set_tooth", "set_depth", "set_value"];

/** Done and undone changes: {op_id, finding_id, before, words}. */
export const done = signal([]);
export const undone = signal([]);

export const outbox = new Outbox(at.start.me?.user_id ?? "", {
	send: post,
	onResults: takeResults,
	onRefused: (problem) => {
		at.notice.value = { kind: "bad", words: `Not saved: ${problem.words}` };
		alarm(problem.words);
		reload();
	},
	onState: (state) => (at.saving.value = state),
});

onReload(() => (outbox.flush(), Promise.race([outbox.settled(), new Promise((wait) => setTimeout(wait, 3000))])));

/** Send a batch; a 409 or 422 that carries results is an answer like any other. */
async function post(study, operations) {
	try {
		return await call(`/api/studies/${study}/ops`, { body: { operations } });
	} catch (problem) {
		if (problem.body?.results && !problem.isTemporary) return problem.body;
		throw problem;
	}
}

/** Ask for the study again, keeping what is still on its way. */
export function reload(isBackground = true) {
	return at.refresh((id) => outbox.isPending(id), isBackground).catch((problem) => {
		at.notice.value = { kind: "bad", words: problem.words };
	});
}

function takeResults(studyId, answer) {
	if (studyId !== at.study.value?.id) return;
	batch(() => {
		const sign = { sign: answer.sign, content_hash: answer.content_hash, state: answer.state };
		at.study.value = { ...at.study.value, ...sign };
		for (const result of answer.results) takeResult(result);
	});
}

function takeResult(result) {
	if (result.status === "conflict") {
		const { finding, mine } = result;
		outbox.drop(finding.id);
		at.setFinding(finding);
		forgetChanges(finding.id);
		const next = new Map(at.conflicts.value);
		next.set(finding.id, { theirs: finding, mine });
		at.conflicts.value = next;
		alarm(`${finding.decided_by ?? "Somebody"} changed ${at.findingWords(finding)} first. Please choose.`);
	} else if (result.status === "refused" || result.status === "invalid") {
		at.notice.value = { kind: "bad", words: `Not saved: ${result.title}` };
		alarm(result.title);
		if (result.finding) at.setFinding(result.finding);
		reload();
	} else if (result.finding && !outbox.isPending(result.finding.id)) {
		at.setFinding(result.finding);
	}
}

function forgetChanges(findingId) {
	done.value = done.value.filter((entry) => entry.finding_id !== findingId);
	undone.value = undone.value.filter((entry) => entry.finding_id !== findingId);
}

/**
 * Change a finding; a change that `follows` another is undone and done again together with it.
 * Returns false, with the reason said, when that is not possible now.
 */
export function change(kind, finding, data = {}, words = "", follows = false) {
	if (!mayChange(kind)) return false;
	if (CONTENT.includes(kind) && finding.state === "rejected") {
		alarm("This finding is rejected. Accept it before you change it.");
		return false;
	}
	const op = operation(kind, finding.id, finding.rev, data);
	const isProposal = !may("findings.decide") && DECISIONS.includes(kind);
	batch(() => {
		at.setFinding({ ...applied(kind, finding, data), rev: finding.rev + (isProposal ? 0 : 1) });
		if (isProposal) return;
		done.value = [...done.value, { op_id: op.op_id, finding_id: finding.id, before: finding, words, follows }];
		undone.value = [];
	});
	at.isTouched.value = true;
	outbox.add(at.study.value.id, op);
	if (words) say(`${words} ${leftWords()}`);
	return true;
}

/** Add a mark of the reader's own; returns it. */
export function add(data) {
	if (!mayChange("add")) return null;
	const kind = kindOf(data.kind);
	const finding = {
		id: newId(), origin: "human", letter: kind.letter, is_disease: kind.isDisease, state: "accepted",
		tooth: null, surfaces: "", depth: null, value_mm: null, value_percent: null, probability: null,
		model: null, original: null, disposition: null, reason: "", comment: "", proposal: null,
		decided_by: me.value.display_name, decided_by_me: true, decided_at: new Date().toISOString(),
		is_removed: false, rev: 1, ...data, universal: universal(data.tooth),
	};
	const op = operation("add", finding.id, null, data);
	batch(() => {
		at.setFinding(finding);
		done.value = [...done.value, { op_id: op.op_id, finding_id: finding.id, before: null, words: "" }];
		undone.value = [];
	});
	at.isTouched.value = true;
	outbox.add(at.study.value.id, op);
	say(`${at.findingWords(finding)} added.`);
	return finding;
}

/** Note that an image was shown, or shown bare; once each. */
export function noteView(kind, imageId) {
	const known = kind === "seen_image" ? at.seen : at.bareSeen;
	if (known.value.has(imageId) || !may("findings.see_unsigned") || !at.study.value.is_editable) return;
	known.value = new Set(known.value).add(imageId);
	outbox.add(at.study.value.id, operation(kind, null, null, { image_id: imageId }));
}

/** Take the last change back. */
export function undo() {
	const last = done.value.at(-1);
	restore(done, undone, "Undone");
	if (last?.follows && done.value.at(-1) !== last) undo();
}

/** Do the change again that was undone last. */
export function redo() {
	const last = undone.value.at(-1);
	restore(undone, done, "Done again");
	const next = undone.value.at(-1);
	if (next?.follows && next !== last) redo();
}

/** Remember a change of a film; `back` makes it unmade, and is remembered the other way round. */
export function noteChange(words, back) {
	if (backTo) [backTo.value, backTo] = [[...backTo.value, { words, back }], null];
	else [done.value, undone.value] = [[...done.value, { words, back }], []];
	at.isTouched.value = true;
}
let backTo = null;

/** Take a change back by the operation that restores what it replaced. */
function restore(from, to, verb) {
	const entry = from.value.at(-1);
	if (!entry) return say(`Nothing to ${verb === "Undone" ? "undo" : "redo"}.`);
	if (entry.back) {
		from.value = from.value.slice(0, -1);
		backTo = to;
		entry.back();
		backTo = null;
		return undefined;
	}
	if (!mayChange("restore")) return undefined;
	const now = at.findings.value.get(entry.finding_id);
	const op = operation("restore", entry.finding_id, now.rev, { op_id: entry.op_id });
	const back = entry.before ?? { ...now, is_removed: true };
	batch(() => {
		at.setFinding({ ...back, rev: now.rev + 1 });
		from.value = from.value.slice(0, -1);
		to.value = [...to.value, { op_id: op.op_id, finding_id: entry.finding_id, before: now, words: entry.words, follows: entry.follows }];
		if (!back.is_removed) {
			at.currentId.value = back.image_id;
			at.selectedId.value = back.id;
		}
	});
	outbox.add(at.study.value.id, op);
	return say(`${verb}: ${entry.words || at.findingWords(now)}`);
}

function mayChange(kind) {
	const isOpenToAll = [...DECISIONS, "comment"].includes(kind);
	if (at.canDecide.value && (isOpenToAll || may("findings.decide"))) return true;
	const isSigned = at.study.value.state === "signed";
	alarm(isSigned ? "This study is signed. Amend it to change findings." : "You need the right: decide findings.");
	return false;
}

function operation(kind, findingId, baseRev, data) {
	return { op_id: newOpId(), kind, finding_id: findingId, base_rev: baseRev, data, at: new Date().toISOString() };
}

/** How many suggestions are left, in words. */
export function leftWords() {
	const left = at.openCount.value;
	return left === 0 ? "All decided." : `${left} left.`;
}

/** The finding as it will stand after an operation, before the server has said so. */
function applied(kind, finding, data) {
	const decided = { decided_by: me.value.display_name, decided_by_me: true, decided_at: new Date().toISOString() };
	const isOwn = finding.origin === "human";
	const original = finding.original ?? (isOwn ? null : finding);
	const edited = { ...decided, state: isOwn ? "accepted" : "edited", original };
	if (!may("findings.decide") && DECISIONS.includes(kind)) {
		const proposal = { kind, reason: data.reason ?? "", by: me.value.display_name, at: decided.decided_at };
		return { ...finding, proposal };
	}
	switch (kind) {
		case "accept": return { ...finding, ...decided, state: finding.original ? "edited" : "accepted", reason: "" };
		case "reject": return { ...finding, ...decided, state: "rejected", reason: data.reason, disposition: null };
		case "set_geometry": return { ...finding, ...edited, geometry: data.geometry, ...measured(finding, data.geometry) };
		case "set_class": {
			const { letter, isDisease } = kindOf(data.kind);
			const depth = hasDepth(data.kind) ? finding.depth : null;
			return { ...finding, ...edited, kind: data.kind, letter, is_disease: isDisease, depth };
		}
		case "set_tooth": return { ...finding, ...edited, ...data, universal: universal(data.tooth) };
		case "set_depth": case "set_value": return { ...finding, ...edited, ...data };
		case "set_disposition": return { ...finding, disposition: data.disposition };
		case "comment": return { ...finding, comment: data.text };
		case "remove_own": return { ...finding, is_removed: true };
		default: return finding;
	}
}

/** A moved bone level is measured again, as the server does. */
function measured(finding, geometry) {
	if (finding.kind !== "bone_level") return {};
	const image = at.images.value.find((candidate) => candidate.id === finding.image_id);
	return { value_mm: millimetres(geometry.points, image.spacing), value_percent: null };
}
