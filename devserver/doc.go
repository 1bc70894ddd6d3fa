// Package devserver runs a complete Temporal server with its Web UI inside the calling process, for development on one machine.
//
// A main function hands Start to the program it is building; nothing else has to be installed or running:
//
//	stepwell.App{Flows: flows, Dev: devserver.Start}.Main()
//
// Only main packages and tests import this package, because it links the whole server. A program that talks to a
// cluster leaves it out.
//
// # State
//
// All state lies in one directory and survives a crash or kill -9 of the process:
//
//	temporal.db (-wal, -shm)   the server's SQLite database
//	server.json                what made the database, and the ports that were used last
//	server.lock                held (flock) by the process that runs the server
//	server.owner               address and process id of that process
//
// # Sharing
//
// Programs that use the same directory at the same time share one server. The first one runs it; when that one ends,
// however it ends, one of the others starts the server again on the same port, so that clients just reconnect. The Web
// UI keeps its port too, unless another program took it meanwhile. A program that only looks (DevOptions.Existing)
// writes nothing and takes nothing over.
//
// # Security
//
// Every port is bound on 127.0.0.1 and there is no authentication: any local user can reach the server. Web pages cannot:
// the Web UI refuses requests of other sites and requests for other host names. Neither the server nor the Web UI sends
// anything to other machines.
package devserver
