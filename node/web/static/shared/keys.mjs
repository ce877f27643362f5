/** Key presses as words (`Shift+J`, `Ctrl+Z`, `?`) and when they belong to the page. */

/** The combination of a keyboard event. Symbols name themselves; letters and named keys take Shift. */
export function combo(event) {
	let key = event.key === " " ? "Space" : event.key;
	const isDigit = /^Digit\d$/.test(event.code);
	if (isDigit && event.shiftKey) key = event.code.slice(5);
	const isLetter = /^[a-z]$/i.test(key);
	if (isLetter) key = key.toUpperCase();
	const showsShift = isLetter || key.length > 1 || isDigit;
	return [
		event.ctrlKey || event.metaKey ? "Ctrl" : "",
		event.altKey ? "Alt" : "",
		event.shiftKey && showsShift ? "Shift" : "",
		key,
	].filter(Boolean).join("+");
}

/** Whether the focus is in a field where letters are text. */
export function isTyping(target) {
	if (!(target instanceof Element)) return false;
	if (target.closest("textarea, select, [contenteditable='true']")) return true;
	const input = target.closest("input");
	return Boolean(input) && !["checkbox", "radio", "button", "range"].includes(input.type);
}

/** Whether a focused control wants this key itself: Space and Enter on buttons, arrows in groups. */
export function isForControl(event) {
	const target = event.target instanceof Element ? event.target : null;
	if (!target) return false;
	if (event.key === "Enter" || event.key === " ") {
		return Boolean(target.closest("button, a[href], summary, input, [role='option']"));
	}
	if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") {
		return Boolean(target.closest("[role='toolbar'], [role='radiogroup'], [role='tablist'], input[type='radio']"));
	}
	return false;
}

/** Move the focus with the arrow keys inside a toolbar, which is one tab stop. */
export function roving(event) {
	const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
	if (!step) return;
	const items = [...event.currentTarget.querySelectorAll("button:not(:disabled)")];
	const at = items.indexOf(document.activeElement);
	if (at < 0) return;
	event.preventDefault();
	const next = items[(at + step + items.length) % items.length];
	for (const item of items) item.tabIndex = item === next ? 0 : -1;
	next.focus();
}
