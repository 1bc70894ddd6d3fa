//go:build !linux

package minio

import "syscall"

// dieWithParent is nothing that this system can do: Close ends the child.
func dieWithParent() *syscall.SysProcAttr { return nil }
