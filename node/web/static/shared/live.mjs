/**
 * Live events: one stream per browser, not per tab.
 *
 * Tabs elect a leader with a web lock; the leader owns the EventSource and relays by
 * BroadcastChannel. When its tab closes the next takes over. Payloads are ids and numbers.
 */

/**
 * Listen from after `seq` on. `onEvent({seq, kind, study_id, image_id})`;
 * `onState("live" | "reconnecting")`. Returns a function that ends it.
 */
export function listen(seq, onEvent, onState) {
	const channel = new BroadcastChannel("bitewing-live");
	const stop = new AbortController();
	let last = seq ?? 0;
	const take = (message) => {
		if (message.hello) return;
		if (message.state) return onState(message.state);
		if (message.event.seq > last || message.event.kind === "resync") {
			last = Math.max(last, message.event.seq);
			onEvent(message.event);
		}
	};
	channel.onmessage = ({ data }) => take(data);
	const relay = (message) => {
		channel.postMessage(message);
		take(message);
	};
	const lead = () => leadUntil(stop.signal, () => last, relay, channel);
	channel.postMessage({ hello: true });
	if (navigator.locks) {
		navigator.locks.request("bitewing-live", { signal: stop.signal }, lead).catch(() => {});
	} else {
		lead();
	}
	addEventListener("pagehide", () => stop.abort(), { once: true });
	return () => stop.abort();
}

/** Own the stream until aborted; reconnect after 1, 2, 4 … 30 s. */
function leadUntil(signal, lastSeq, relay, channel) {
	return new Promise((resolve) => {
		let source = null;
		let wait = 1000;
		let timer = 0;
		// a tab that comes later asks how things stand
		channel.addEventListener("message", ({ data }) => {
			if (data.hello && source?.readyState === EventSource.OPEN) channel.postMessage({ state: "live" });
		});
		const connect = () => {
			source?.close();
			if (signal.aborted) return;
			source = new EventSource(`/api/events?after=${lastSeq()}`);
			source.onopen = () => {
				wait = 1000;
				relay({ state: "live" });
			};
			source.onerror = () => {
				relay({ state: "reconnecting" });
				if (source.readyState !== EventSource.CLOSED) return;
				clearTimeout(timer);
				timer = setTimeout(connect, wait);
				wait = Math.min(wait * 2, 30_000);
			};
			source.onmessage = (message) => relay({ event: JSON.parse(message.data) });
		};
		signal.addEventListener("abort", () => {
			clearTimeout(timer);
			source?.close();
			resolve();
		});
		connect();
	});
}
