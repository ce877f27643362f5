/** What screen readers hear: one polite region, and an assertive one for errors. */

function region(id, role) {
	let node = document.getElementById(id);
	if (!node) {
		node = document.createElement("div");
		node.id = id;
		node.className = "sr-only";
		node.setAttribute("role", role);
		node.setAttribute("aria-live", role === "alert" ? "assertive" : "polite");
		document.body.append(node);
	}
	return node;
}

/** Say this when the reader pauses. */
export function say(words) {
	region("said", "status").textContent = words;
}

/** Say this at once. */
export function alarm(words) {
	region("alarm", "alert").textContent = words;
}
