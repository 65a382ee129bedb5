// What the page does in the browser, beside the tab Live.

// The link that carries the settings of the tab that is open, as the address of this page.
window.eatLink = (settings, examples, portrait, voice, values) => {
  const open = document.querySelector("#tabs [role=tab][aria-selected=true]").id.replace(/^tab-|-button$/g, "");
  const link = new URLSearchParams({tab: open});
  const named = file => file && file.orig_name && file.orig_name.replace(/\.[^.]*$/, "");
  const example = examples.find(([face, sound]) => face === named(portrait) && sound === named(voice));
  if (example) link.set("example", example[0]);
  settings.forEach(([tab, name], n) => {
    const given = values[n] !== null && values[n] !== "" && values[n] !== "driving video";  // files are in no link
    if (tab === open && given) link.set(name, values[n]);
  });
  return location.href.split(/[?#]/)[0] + "?" + link.toString().replace(/%3A/g, ":").replace(/%2C/g, ",");
};
window.eatCopy = text => {
  navigator.clipboard?.writeText(text).catch(() => {});  // where that is not allowed, the field has a button for it
  return text;
};

// Names for buttons that are pictures: Gradio gives them none, or only numbers.
new MutationObserver(() => {
  document.querySelectorAll("#examples button.gallery-item").forEach(button => {
    const name = decodeURIComponent(button.querySelector("img")?.src ?? "").replace(/.*[/]|\.[^.]*$/g, "");
    if (name && button.ariaLabel !== `Example: ${name}`) button.ariaLabel = `Example: ${name}`;
  });
  document.querySelectorAll("#emotions .caption-label").forEach(caption => {
    const button = caption.closest("button"), name = caption.textContent.trim();
    if (button && button.ariaLabel !== name) button.ariaLabel = name;
  });
}).observe(document.documentElement, {childList: true, subtree: true});
