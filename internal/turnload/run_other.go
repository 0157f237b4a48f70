//go:build !linux

package turnload

import (
	"context"
	"fmt"
	"runtime"
)

// Run drives a load, on Linux only: the kernel's timestamps and batches are its own.
func Run(context.Context, Config) (Result, error) {
	return Result{}, fmt.Errorf("load cannot be driven on %s: it needs Linux", runtime.GOOS)
}
