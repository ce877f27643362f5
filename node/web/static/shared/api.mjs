/** Calls to the node: JSON in, JSON out; problems become `Problem` with words for people. */

/** A refused or failed call. `status` 0 means the node could not be reached. */
export class Problem extends Error {
	constructor(status, body) {
		super(body.title || body.detail || `The node answered ${status}.`);
		this.status = status;
		this.type = body.type ?? "";
		this.detail = body.detail ?? "";
		this.blockers = body.blockers ?? [];
		this.body = body;
		this.retryAfter = Number(body.retry_after) || null;
	}

	/** Whether the same call may succeed later: a page of an older release takes no refusal as final. */
	get isTemporary() {
		return isOld || this.status === 0 || this.status === 503 || this.status === 429 || this.status >= 502;
	}

	/** One sentence for a strip or card. */
	get words() {
		return this.detail && this.detail !== this.message ? `${this.message} ${this.detail}` : this.message;
	}
}

/** What the server put into the page. */
export function boot() {
	const block = document.getElementById("boot");
	return block ? JSON.parse(block.textContent) : {};
}

let csrf = "";
let whenLocked = () => {};
/** Call this when the server says that the session is locked. */
export function onLocked(action) {
	whenLocked = action;
}
/** Use this token for every change. */
export function useToken(token) {
	csrf = token ?? "";
}

const OWN = import.meta.url.match(/[0-9a-f]{16}/)?.[0]; // the release that this page is of
let isOld = false;
let beforeReload = () => {};
/** Do this before the page is fetched anew. */
export function onReload(action) {
	beforeReload = action;
}

/** Tell, once, that the node was upgraded while this page stood open. */
function compare(release) {
	if (isOld || !OWN || !release || release === OWN) return;
	isOld = true;
	const again = async () => {
		await beforeReload();
		location.reload();
	};
	const bar = Object.assign(document.createElement("p"), { className: "newer", role: "alert" });
	bar.append("A newer version is ready. Nothing is lost. ", Object.assign(document.createElement("button"), { textContent: "Reload", onclick: again }));
	document.body.prepend(bar);
}

/**
 * Call the node; `body` makes it a POST. `isBackground` marks calls the page makes by itself, which
 * must not keep an abandoned screen unlocked; `isLast` ones outlive the page.
 */
export async function call(path, options = {}) {
	const response = await request(path, options);
	return response.status === 204 ? null : response.json();
}

/** Fetch bytes. */
export async function bytes(path) {
	return (await request(path, { isBackground: true })).arrayBuffer();
}

/** Fetch a picture the browser can decode. */
export async function picture(path) {
	return createImageBitmap(await (await request(path, { isBackground: true })).blob());
}

/** Ask the node; refuses with a Problem. */
export async function request(path, { method, body, isBackground, isLast }) {
	const isChange = body !== undefined || (method && method !== "GET");
	const headers = { Accept: "application/json" };
	if (isChange) headers["X-CSRF-Token"] = csrf;
	if (isBackground) headers["X-Background"] = "1";
	if (body !== undefined) headers["Content-Type"] = "application/json";
	let response;
	try {
		response = await fetch(path, {
			method: method ?? (body === undefined ? "GET" : "POST"),
			headers,
			body: body === undefined ? undefined : JSON.stringify(body),
			credentials: "same-origin",
			keepalive: Boolean(isLast),
		});
	} catch {
		throw new Problem(0, { title: "The node cannot be reached." });
	}
	compare(response.headers.get("X-Release"));
	if (response.ok) return response;
	const problem = new Problem(response.status, await response.json().catch(() => ({})));
	if (problem.type === "locked") whenLocked();
	else if (problem.type === "unauthenticated") signIn();
	throw problem;
}

/** Go to the sign-in page and come back here afterwards. */
export function signIn() {
	location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
}
