// A page in a frame cannot see whether the page around it is light or dark. It asks, and obeys whoever answers, as the course's site does;
// elsewhere nobody answers, and the system's choice holds.
addEventListener("message", ({ data, source }) => {
  if (source === parent && data?.colorScheme) document.documentElement.style.colorScheme = data.colorScheme;
});
parent.postMessage("color scheme?", "*");
