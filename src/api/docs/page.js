"use strict";

(() => {
  const address = document.currentScript.dataset.document;
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => root.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();

  const viewer = window.SwaggerUIBundle({
    url: address,
    dom_id: "#docs",
    // Keys stay in the memory of the page.
    persistAuthorization: false,
    // It would ask another server.
    validatorUrl: null,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    defaultModelExpandDepth: 3,
    onComplete: () => {
      const title = viewer.specSelectors.info().get("title");
      if (title) document.title = title;
    },
  });
})();
