/**
 * Frames from the server: fetch once, keep the most recent, prefetch the neighbours.
 *
 * At most 12 frames or 80 MB are held. A failed fetch is forgotten, so that asking again retries.
 */

const MAX_FRAMES = 12;
const MAX_BYTES = 80e6;

export class Frames {
	/** `load(id)` resolves to a frame {width, height, samples|bitmap, bytes}. */
	constructor(load) {
		this.load = load;
		this.held = new Map(); // id -> {promise, bytes, frame}, oldest first
		this.waiting = [];
		this.isPaused = false;
		this.isFetching = false;
	}

	/** The frame if it is here already, else null. */
	peek(id) {
		return this.held.get(id)?.frame ?? null;
	}

	/** Get a frame and mark it as used last. */
	get(id) {
		const known = this.held.get(id);
		if (known) {
			this.held.delete(id);
			this.held.set(id, known);
			return known.promise;
		}
		const entry = { promise: null, bytes: 0, frame: null };
		entry.promise = this.load(id).then(
			(frame) => {
				entry.frame = frame;
				entry.bytes = frame.bytes;
				this.trim(id);
				return frame;
			},
			(error) => {
				this.held.delete(id);
				throw error;
			},
		);
		this.held.set(id, entry);
		return entry.promise;
	}

	/** Fetch these in the background, in order; nothing starts while paused (a drag is on). */
	prefetch(ids) {
		this.waiting = ids.filter((id) => id && !this.held.has(id));
		this.next();
	}

	/** Hold or go on with prefetching. */
	pause(isPaused) {
		this.isPaused = isPaused;
		if (!isPaused) this.next();
	}

	next() {
		if (this.isPaused || this.isFetching || !this.waiting.length) return;
		this.isFetching = true;
		const done = () => {
			this.isFetching = false;
			this.next();
		};
		this.get(this.waiting.shift()).then(done, done);
	}

	trim(keep) {
		let bytes = 0;
		for (const entry of this.held.values()) bytes += entry.bytes;
		for (const [id, entry] of this.held) {
			if (this.held.size <= MAX_FRAMES && bytes <= MAX_BYTES) break;
			if (id === keep || !entry.frame) continue;
			bytes -= entry.bytes;
			this.held.delete(id);
		}
	}
}
