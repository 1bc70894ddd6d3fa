// Package stepwell runs durable flows for data and ML work on Temporal.
//
// Package flow defines flows, package policies says what happens when a step fails. This package makes programs of them:
//
//   - [App] is a whole program with a command line: starter, worker and, without a Temporal server, everything in one
//     process. examples/hello shows one.
//   - [Client] starts, resumes, follows and cancels runs from Go; its verbs are what the command line calls.
//   - [NewWorker] makes a Temporal worker of flows, for programs with a main of their own.
//
// Package runs reads runs back, package flowtest tests flows, package devserver embeds a Temporal server.
package stepwell

import "log/slog"

// DevServer is a Temporal server for development, usually the one that devserver.Start embeds in this process.
type DevServer struct {
	// Address is the host:port of the server's frontend.
	Address string
	// WebUI is the address of the Temporal Web UI, for example http://127.0.0.1:8233. Empty when it is headless.
	WebUI string
	// Namespace is the namespace that flows run in.
	Namespace string
	// Shared says that another process runs the server at this moment.
	Shared bool
	// Stop ends this process's part: it stops the server, or lets go of a shared one. Calling it again does nothing.
	Stop func()
}

// DevOptions says where and how a development server runs.
type DevOptions struct {
	// Dir holds all state of the server. Required.
	Dir string
	// Port and WebUIPort are the ports of the frontend and of the Web UI.
	// Zero means the ports last used in Dir, else free ones.
	Port, WebUIPort int
	// Existing only looks for a server that another process runs in Dir, and fails at once if there is none.
	Existing bool
	// Headless leaves the Web UI out.
	Headless bool
	// Logger receives the server's warnings and errors. Nil discards them.
	Logger *slog.Logger
}
