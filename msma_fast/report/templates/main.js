initTheme();
initRail();
initCopy();
initFigures();
initExplorer();
