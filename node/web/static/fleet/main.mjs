/** All locations: how each stands, what waits there, when it was last heard of. */

import { html, signal, useEffect } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { me } from "../shared/session.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { failure, open } from "../people/frame.mjs";

const REFRESH_MS = 30_000;
const SOON_MS = 30 * 86_400_000;
const LOW_BYTES = 20e9;
const WAITING = ["to review", "patient in doubt", "decisions waiting", "writes waiting", "waiting for the bucket"];
const STOPPED = ["images failed", "writes stopped", "cases stopped", "lost or damaged"];

const locations = signal(null);

async function load(isBackground = true) {
	try {
		locations.value = (await call("/api/fleet", { isBackground })).locations;
		failure.value = "";
	} catch (problem) {
		failure.value = problem.words;
	}
}

/** What a person should look at first: silent, failing, degraded, fine. */
function rank(each) {
	if (each.is_silent) return 0;
	return { failing: 1, degraded: 2, ok: 3 }[each.status];
}

function State({ each }) {
	if (each.is_silent) return html`<span class="pill bad">silent</span>`;
	const kind = { failing: "bad", degraded: "warn", ok: "good" }[each.status];
	return html`<span class=${`pill ${kind}`}>${each.status}</span>
		${each.is_paused && html` <span class="pill warn">outbound paused</span>`}`;
}

function counts(queues, names) {
	const found = names.filter((name) => queues[name]).map((name) => `${queues[name]} ${name}`);
	return found.join(", ") || "–";
}

function certificateWords(each, zone) {
	if (!each.certificates.length) return "none";
	const ends = each.certificates.map((one) => one.expires_at ?? "");
	const first = ends.sort()[0];
	if (!first) return html`<span class="pill bad">unreadable</span>`;
	const isSoon = new Date(first) - Date.now() < SOON_MS;
	return html`<span class=${isSoon ? "pill warn" : ""}>until ${timeWords(first, zone)}</span>`;
}

function Location({ each, zone }) {
	const bad = each.parts.filter((part) => !part.is_ok);
	return html`<tr>
		<td><b>${each.practice_name}</b><br /><small class="muted">${each.location_id}${each.is_here ? " · this node" : ` · ${each.sender}`}</small></td>
		<td><${State} each=${each} /><br /><small class="muted">${each.is_here ? "now" : timeWords(each.received_at, zone)}</small></td>
		<td>${each.version}<br /><small class="muted">schema ${each.revision}</small></td>
		<td>${counts(each.queues, WAITING)}</td>
		<td>${counts(each.queues, STOPPED)}</td>
		<td>${each.synced_at ? timeWords(each.synced_at, zone) : "–"}</td>
		<td>${each.sensors.map((one) => html`<div key=${one.ae_title}>${one.ae_title}: ${timeWords(one.last_image_at, zone)}
			<small class="muted"> (${one.images})</small></div>`)}${!each.sensors.length && "–"}</td>
		<td>${certificateWords(each, zone)}</td>
		<td class=${each.free_bytes < LOW_BYTES ? "low" : ""}>${(each.free_bytes / 1e9).toFixed(0)} GB</td>
		<td>${each.backup_at ? timeWords(each.backup_at, zone) : "never"}</td>
		<td>${bad.map((part) => html`<div key=${part.name}><b>${part.name}</b>: ${part.words}</div>`)}${!bad.length && "–"}</td>
	</tr>`;
}

function Page() {
	useEffect(() => {
		const timer = setInterval(load, REFRESH_MS);
		return () => clearInterval(timer);
	}, []);
	const zone = me.value.settings.time_zone;
	const rows = locations.value && [...locations.value].sort((a, b) => rank(a) - rank(b));
	if (!rows) return !failure.value && html`<p class="muted">Loading…</p>`;
	return html`<div class="locations" tabindex="0" role="region" aria-label="Locations">
		<table class="queue"><thead><tr><th>Location</th><th>State</th><th>Release</th><th>Waiting</th>
			<th>Stopped</th><th>Synced</th><th>Last image by sensor (30 days)</th><th>Certificates</th>
			<th>Disk free</th><th>Backup</th><th>Needs a look</th></tr></thead>
			<tbody>${rows.map((each) => html`<${Location} key=${each.location_id + each.sender} each=${each} zone=${zone} />`)}</tbody></table>
	</div>`;
}

open("Locations", Page, () => load(false));
