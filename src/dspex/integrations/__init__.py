"""Where dspex meets other libraries; each integration needs its library, and nothing else of dspex does."""
