// Package gridsearch is GridSearchFlow: it looks for the model that predicts a town's power demand from the temperature best,
// and shows all shapes at work.
//
//	load
//	branch families
//	  foreach polynomials: fit_polynomial → join best_polynomial
//	  foreach neighbours:  fit_neighbours → join best_neighbours
//	join choose
//	loop tune: tune_once
//	evaluate
//	switch quality: ship, or else report
//	summarize
//
// Two families of models are searched at the same time, each over a grid of its own. Some candidates cannot be fitted; that
// many are tolerated, and the join of their grid says which. The winner is tuned until that is of no more use, measured on
// rows that nobody has seen, and shipped or reported. The card of the last step shows the scores. The data are drawn from the
// parameter seed, so a seed gives the same figures in every run.
package gridsearch
