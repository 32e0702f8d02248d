package cuda

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"

	"understudy.dev/accel"
)

// ErrUnavailable: there is no libcuda here, or it finds no GPU.
var ErrUnavailable = errors.New("cuda: no device")

// A result is a CUresult; 0 is success.
type result int32

// outOfMemory is CUDA_ERROR_OUT_OF_MEMORY: nothing was done and the context lives.
const outOfMemory = 2

// driver is what is used of libcuda (CUDA driver API 12, cuda.h). The names with
// _v2 are what the header's macros mean.
type driver struct {
	cuInit               func(flags uint32) result
	cuDriverGetVersion   func(version *int32) result
	cuGetErrorName       func(code result, name *unsafe.Pointer) result
	cuDeviceGetCount     func(count *int32) result
	cuDeviceGet          func(device *int32, ordinal int32) result
	cuDeviceGetName      func(name *byte, length, device int32) result
	cuDeviceGetAttribute func(value *int32, attribute, device int32) result
	cuPrimaryCtxRetain   func(ctx *uintptr, device int32) result
	cuPrimaryCtxRelease  func(device int32) result
	cuCtxSetCurrent      func(ctx uintptr) result
	cuCtxSynchronize     func() result
	cuModuleLoadDataEx   func(module *uintptr, image *byte, options uint32, names *int32, values *uintptr) result
	cuModuleUnload       func(module uintptr) result
	cuModuleGetFunction  func(function *uintptr, module uintptr, name string) result
	cuMemAlloc           func(address *uint64, bytes uintptr) result
	cuMemFree            func(address uint64) result
	cuMemsetD8           func(address uint64, value uint8, bytes uintptr) result
	cuMemcpyHtoD         func(address uint64, from unsafe.Pointer, bytes uintptr) result
	cuMemcpyDtoH         func(to unsafe.Pointer, address uint64, bytes uintptr) result
	cuLaunchKernel       func(function uintptr, gx, gy, gz, bx, by, bz, shared uint32, stream uintptr, params, extra unsafe.Pointer) result
}

// openDriver loads libcuda and initializes it. Its symbols are for this package
// alone.
func openDriver(library string) (*driver, error) {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	d := new(driver)
	for name, function := range map[string]any{
		"cuInit": &d.cuInit, "cuDriverGetVersion": &d.cuDriverGetVersion, "cuGetErrorName": &d.cuGetErrorName,
		"cuDeviceGetCount": &d.cuDeviceGetCount, "cuDeviceGet": &d.cuDeviceGet, "cuDeviceGetName": &d.cuDeviceGetName,
		"cuDeviceGetAttribute": &d.cuDeviceGetAttribute, "cuDevicePrimaryCtxRetain": &d.cuPrimaryCtxRetain,
		"cuDevicePrimaryCtxRelease_v2": &d.cuPrimaryCtxRelease, "cuCtxSetCurrent": &d.cuCtxSetCurrent,
		"cuCtxSynchronize": &d.cuCtxSynchronize, "cuModuleLoadDataEx": &d.cuModuleLoadDataEx, "cuModuleUnload": &d.cuModuleUnload,
		"cuModuleGetFunction": &d.cuModuleGetFunction, "cuMemAlloc_v2": &d.cuMemAlloc, "cuMemFree_v2": &d.cuMemFree,
		"cuMemsetD8_v2": &d.cuMemsetD8, "cuMemcpyHtoD_v2": &d.cuMemcpyHtoD, "cuMemcpyDtoH_v2": &d.cuMemcpyDtoH,
		"cuLaunchKernel": &d.cuLaunchKernel,
	} {
		symbol, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		purego.RegisterFunc(function, symbol)
	}
	if err := d.check("initialize", d.cuInit(0)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return d, nil
}

// check names a failure. All but a lack of memory is taken to have broken the
// context: most CUDA errors are sticky.
func (d *driver) check(what string, code result) error {
	switch code {
	case 0:
		return nil
	case outOfMemory:
		return fmt.Errorf("cuda: %s: out of memory", what)
	}
	return fmt.Errorf("cuda: %s: %s: %w", what, d.errorName(code), accel.ErrDevice)
}

func (d *driver) errorName(code result) string {
	var name unsafe.Pointer
	if d.cuGetErrorName(code, &name) != 0 || name == nil {
		return fmt.Sprintf("error %d", code)
	}
	return fmt.Sprintf("%s (%d)", cString(name), code)
}

// cString copies a C string of the driver's, which lives as long as the driver.
func cString(p unsafe.Pointer) string {
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}
