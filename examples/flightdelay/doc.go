// Package flightdelay is FlightDelayFlow: it trains a model on real flights and says how good it is.
//
// The question is: will a flight that is about to leave arrive 15 minutes or more behind its schedule? That is the
// limit of the US Department of Transportation for a delayed flight. The data are 20,000 domestic flights of January
// to March 2001, built into the program; data/SOURCE.md says where they come from. Their time is the one at which the flight
// really left. It is known when the flight leaves, and nothing that is known only later goes into the model.
//
//	load → validate → features → fit → evaluate → report
//
// Every step is a plain function over [State] and is tested as one. The same data and seed give the same model.
package flightdelay
