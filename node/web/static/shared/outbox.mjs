/**
 * Decisions on their way to the node: kept in IndexedDB until the node has answered for them.
 *
 * Only ids and numbers are kept on disk; a comment's text stays in memory. Delivery is in order and
 * may repeat: the node applies each `op_id` once. Retries after 1, 2, 4 … 30 s.
 */

const BATCH = 50;

/** A time-ordered id (UUID version 7, RFC 9562 5.7). */
export function newOpId(now = Date.now()) {
	const bytes = crypto.getRandomValues(new Uint8Array(16));
	for (let i = 0; i < 6; i += 1) bytes[i] = Math.floor(now / 2 ** (8 * (5 - i))) % 256;
	bytes[6] = (bytes[6] & 0x0f) | 0x70;
	bytes[8] = (bytes[8] & 0x3f) | 0x80;
	return hex(bytes).replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A new opaque object id: 32 hex digits. */
export function newId() {
	return hex(crypto.getRandomValues(new Uint8Array(16)));
}

function hex(bytes) {
	return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
	/**
	 * `send(study, operations)` resolves to results or throws a Problem; `onResults(study, results,
	 * answer)`; `onRefused(problem)` when the node will never take a batch; `onState({kind, count})`
	 * with kind saved, saving or offline.
	 */
	constructor(user, { send, onResults, onRefused, onState }) {
		Object.assign(this, { user, send, onResults, onRefused, onState });
		this.queue = [];
		this.wait = 1000;
		this.isSending = false;
		this.isOffline = false;
		this.timer = 0;
		this.idle = [];
		addEventListener("online", () => this.flush());
	}

	/** Read what an earlier page left behind, and send it. */
	async open() {
		this.db = await openStore().catch(() => null);
		this.queue.forEach((entry) => this.keep(entry)); // what was decided before the store was open
		const kept = this.db ? await all(this.db) : [];
		const mine = kept.filter((entry) => entry.user === this.user);
		const here = new Set(this.queue.map((entry) => entry.op.op_id));
		this.queue.unshift(...mine.filter((entry) => !here.has(entry.op.op_id)));
		return this.flush();
	}

	/** Keep an operation and send it soon. */
	add(study, op) {
		const entry = { study, user: this.user, op };
		this.queue.push(entry);
		this.keep(entry);
		this.tell();
		if (!this.isSending) queueMicrotask(() => this.flush());
	}

	/** Whether operations on this finding are still on their way. */
	isPending(findingId) {
		return this.queue.some((entry) => entry.op.finding_id === findingId);
	}

	/** Resolve when everything has been answered for. */
	settled() {
		if (!this.queue.length) return Promise.resolve();
		return new Promise((resolve) => this.idle.push(resolve));
	}

	/** Take operations on a finding back before they are sent. */
	drop(findingId) {
		for (const { op } of this.queue.filter((e) => e.op.finding_id === findingId)) this.forget(op.op_id);
		this.queue = this.queue.filter((entry) => entry.op.finding_id !== findingId);
		this.tell();
	}

	/** Forget everything: after sign-out. */
	async clear() {
		this.queue = [];
		if (this.db) await done(this.ops().clear());
		this.tell();
	}

	async flush() {
		clearTimeout(this.timer);
		if (this.isSending) return;
		this.isSending = true;
		while (this.queue.length) {
			const study = this.queue[0].study;
			const end = this.queue.findIndex((entry) => entry.study !== study);
			const batch = this.queue.slice(0, Math.min(end < 0 ? this.queue.length : end, BATCH));
			this.tell();
			if (!(await this.deliver(study, batch))) break;
		}
		this.isSending = false;
		this.tell();
	}

	async deliver(study, batch) {
		const sent = new Set(batch.map((entry) => entry.op.op_id));
		const leave = () => {
			this.queue = this.queue.filter((entry) => !sent.has(entry.op.op_id));
			for (const id of sent) this.forget(id);
		};
		try {
			const answer = await this.send(study, batch.map((entry) => entry.op));
			leave();
			this.wait = 1000;
			this.isOffline = false;
			this.onResults(study, answer);
			return true;
		} catch (problem) {
			if (problem.status === 401 || problem.isTemporary || problem.status === undefined) {
				this.isOffline = true;
				const wait = Math.max(this.wait, (problem.retryAfter ?? 0) * 1000);
				this.timer = setTimeout(() => this.flush(), wait);
				this.wait = Math.min(this.wait * 2, 30_000);
				return false;
			}
			leave();
			this.onRefused(problem);
			return true;
		}
	}

	/** Keep an operation for the page that comes after this one; a text stays in memory. */
	keep(entry) {
		if (!hasText(entry.op)) this.ops()?.put(entry);
	}

	forget(opId) {
		this.ops()?.delete(opId);
	}

	/** The store, to be written to; undefined while there is none. */
	ops() {
		return this.db?.transaction("ops", "readwrite").objectStore("ops");
	}

	tell() {
		const count = this.queue.length;
		this.onState({ kind: count === 0 ? "saved" : this.isOffline ? "offline" : "saving", count });
		if (count === 0) for (const resolve of this.idle.splice(0)) resolve();
	}
}

function hasText(op) {
	return op.kind === "comment" || Boolean(op.data?.comment);
}

function openStore() {
	const request = indexedDB.open("bitewing", 1);
	request.onupgradeneeded = () => request.result.createObjectStore("ops", { keyPath: "op.op_id" });
	return done(request);
}

/** Everything kept, oldest first: the key is time-ordered. */
function all(db) {
	return done(db.transaction("ops").objectStore("ops").getAll());
}

function done(request) {
	return new Promise((resolve, reject) => {
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});
}
