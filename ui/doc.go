// Package ui shows runs in a browser: the flows of a store, their runs, and of each run what package report says, with the
// artifacts, logs, attempts and cards of its tasks.
//
//	source := ui.Fixed(runs.New(store, temporalClient), "http://127.0.0.1:8233")
//	err := http.ListenAndServe("127.0.0.1:8283", ui.Handler(source, ui.Options{}))
//
// Pages are made on the server and changed by nobody: only GET and HEAD are answered. Everything comes from the store, so a run
// is shown after Temporal forgot it; Temporal tells what is live.
//
// # Who may read
//
// There is no login. The handler is for the loopback address, where the user's own programs can reach it, and it takes care that
// pages of other sites in the user's browser cannot: it answers only requests whose Host is a loopback address, localhost or a
// name of [Options.Hosts], and none that a script of another origin makes. Keys of the store are made of checked parts
// ([runs.ParsePathspec]), never of a path from a request.
//
// What steps, stores and people wrote is untrusted: it is text on every page, the policy of a page allows no script except the one
// that keeps a page of a running run current, artifacts are downloads, and stored cards are in a frame of their own origin.
package ui
