"""One class for each outside system; its methods implement the steps of the catalogue."""
