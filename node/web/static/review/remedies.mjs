/** What is seldom needed: linking a patient, analysing again, leaving nothing behind. */

import { call } from "../shared/api.mjs";
import { say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { outbox, reload } from "./changes.mjs";

/** Ask whose images these are, as the worklist does. */
export async function link() {
	const { repairing } = await import("../worklist/repair.mjs");
	const { id, patient, match } = at.study.value;
	repairing.value = { id, patient, problems: [{ words: match.reason }] };
	at.dialog.value = "Repair";
}

/** Before signing out: send what is left, and keep nothing of this person. */
export async function clearOutbox() {
	if (at.saving.value.count) {
		const isSent = await Promise.race([outbox.flush().then(() => !at.saving.value.count), new Promise((r) => setTimeout(() => r(false), 3000))]);
		if (!isSent && !confirm("Some decisions could not be sent yet. Sign out and lose them?")) return false;
	}
	await outbox.clear();
	return true;
}

/** Analyse images again whose analysis failed. */
export async function retry(images) {
	try {
		for (const image of images) await call(`/api/images/${image.id}/retry`, { method: "POST" });
		say("Analysis started again.");
		reload();
	} catch (problem) {
		at.notice.value = { kind: "bad", words: problem.words };
	}
}
