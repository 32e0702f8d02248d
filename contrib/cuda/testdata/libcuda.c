/*
 * A stand-in for NVIDIA's libcuda.so.1, for tests where there is no GPU: what
 * package cuda calls of the driver API, with the prototypes, the result codes and
 * the strictness that the API's documentation gives it (CUDA Driver API 12, "Data
 * types", "Primary Context Management", "Module Management", "Memory Management",
 * "Execution Control"). Written from that documentation, with no code of the
 * driver's, and no authority on it.
 *
 * Where the documentation leaves a choice, the stand-in takes the one that a wrong
 * caller survives least: a device's handle is not its ordinal, an address is not a
 * host pointer, new memory is full of 0xA5, a launch that fails says so only at the
 * next synchronization, and then at every call, whatever the context ("the process
 * must be terminated and relaunched", of CUDA_ERROR_ILLEGAL_ADDRESS and others).
 *
 * Kernels are not run here but by whoever called standin_on_launch. Calls are not
 * meant to be made at the same time on several threads, though from several.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cuda.h, as far as used ---- */

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;

typedef enum {
	CUDA_SUCCESS = 0,
	CUDA_ERROR_INVALID_VALUE = 1,
	CUDA_ERROR_OUT_OF_MEMORY = 2,
	CUDA_ERROR_NOT_INITIALIZED = 3,
	CUDA_ERROR_NO_DEVICE = 100,
	CUDA_ERROR_INVALID_DEVICE = 101,
	CUDA_ERROR_INVALID_CONTEXT = 201,
	CUDA_ERROR_INVALID_PTX = 218,
	CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
	CUDA_ERROR_INVALID_HANDLE = 400,
	CUDA_ERROR_NOT_FOUND = 500,
	CUDA_ERROR_ILLEGAL_ADDRESS = 700,
	CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
	CUDA_ERROR_LAUNCH_FAILED = 719,
	CUDA_ERROR_NOT_SUPPORTED = 801,
	CUDA_ERROR_FORCE_INT = 0x7fffffff
} CUresult;

typedef enum {
	CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
	CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
	CU_DEVICE_ATTRIBUTE_FORCE_INT = 0x7fffffff
} CUdevice_attribute;

typedef enum { CU_JIT_FORCE_INT = 0x7fffffff } CUjit_option;

/* ---- state ---- */

#define DEVICES 2
#define FIRST_DEVICE 7 /* the handle of ordinal 0 */
#define FIRST_ADDRESS 0x700000000000ULL
#define ALIGNMENT 512
#define NAME_BYTES 64
#define MAX_PARAMS 16
#define MAX_FUNCTIONS 64
#define MAX_RANGES 4096
#define MAX_CONTEXTS 64
#define DRIVER_VERSION 12080 /* 12.8 */
#define PTX_VERSION 807      /* 8.7, the newest that 12.8 compiles */

/* A range is allocated memory. Its host address is known to the launcher only. */
struct range {
	uint64_t address, bytes;
	unsigned char *host;
	CUcontext context;
};

struct CUfunc_st {
	CUmodule module;
	char name[NAME_BYTES];
	int params;
	size_t size[MAX_PARAMS];
};

struct CUmod_st {
	CUcontext context; /* NULL once unloaded */
	char *text;
	int functions;
	struct CUfunc_st function[MAX_FUNCTIONS];
	CUmodule next;
};

/* Contexts are never reused, so that a stale one is known as such. */
struct CUctx_st {
	CUdevice device;
	int alive;
	CUresult pending; /* of a launch: told by the next synchronization */
};

static int initialized;
static struct CUctx_st contexts[MAX_CONTEXTS];
static int context_count;
static struct {
	CUcontext primary;
	int retained;
} devices[DEVICES];
static CUmodule modules;
static struct range ranges[MAX_RANGES]; /* by address */
static int range_count;
static uint64_t next_address = FIRST_ADDRESS;
static uint64_t allocated, limit = 256 << 20;
static CUresult broken; /* what all work returns: only a new process is well again */
static long leaked; /* allocations and modules that a context died with */

static __thread CUcontext current; /* contexts belong to a thread of the system */

/* ---- what a test asks for ---- */

/* A launch is what a kernel is given. Parameters lie as in PTX's parameter space. */
struct launch {
	const char *ptx, *kernel;
	const void *params;
	uint64_t param_bytes;
	const struct range *memory;
	uint64_t ranges;
	uint32_t grid[3], block[3];
};

static uintptr_t (*on_launch)(const struct launch *);

void standin_on_launch(uintptr_t (*run)(const struct launch *)) { on_launch = run; }

void standin_limit(uint64_t bytes) { limit = bytes; }

static struct {
	char function[NAME_BYTES];
	CUresult code;
	int sticky;
} planned;

/* The next call of function fails with code; if sticky, so does what comes after. */
void standin_fail(const char *function, int code, int sticky)
{
	snprintf(planned.function, NAME_BYTES, "%s", function);
	planned.code = (CUresult)code;
	planned.sticky = sticky;
}

/* A number that the calling thread has for itself. */
uintptr_t standin_thread(void) { return (uintptr_t)&current; }

static uint32_t shape[6];

/* The grid and the block of the last launch. */
void standin_shape(uint32_t out[6]) { memcpy(out, shape, sizeof shape); }

long standin_allocations(void) { return range_count; }

long standin_leaked(void) { return leaked; }

long standin_modules(void)
{
	long n = 0;
	for (CUmodule m = modules; m; m = m->next)
		n += m->context != NULL;
	return n;
}

long standin_retained(void)
{
	long n = 0;
	for (int i = 0; i < DEVICES; i++)
		n += devices[i].retained;
	return n;
}

/* ---- checks ---- */

static CUresult plan(const char *function)
{
	if (strcmp(planned.function, function) != 0)
		return CUDA_SUCCESS;
	planned.function[0] = 0;
	if (planned.sticky)
		broken = planned.code;
	return planned.code;
}

#define TRY(expression)                  \
	do {                             \
		CUresult r = expression; \
		if (r != CUDA_SUCCESS)   \
			return r;        \
	} while (0)

static CUresult enter(const char *function)
{
	if (!initialized)
		return CUDA_ERROR_NOT_INITIALIZED;
	return plan(function);
}

static CUresult enter_device(const char *function, CUdevice dev)
{
	TRY(enter(function));
	return dev < FIRST_DEVICE || dev >= FIRST_DEVICE + DEVICES ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

static CUresult enter_context(const char *function)
{
	if (!initialized)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!current->alive)
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	if (broken)
		return broken;
	return plan(function);
}

/* find returns the range that holds all bytes at address, of the current context. */
static struct range *find(uint64_t address, uint64_t bytes)
{
	for (int i = 0; i < range_count; i++) {
		struct range *r = &ranges[i];
		if (r->context == current && address >= r->address && address - r->address < r->bytes)
			return bytes <= r->bytes - (address - r->address) ? r : NULL;
	}
	return NULL;
}

static void drop_range(int i)
{
	allocated -= ranges[i].bytes;
	free(ranges[i].host);
	memmove(&ranges[i], &ranges[i + 1], (size_t)(--range_count - i) * sizeof ranges[0]);
}

/* ---- driver ---- */

CUresult cuInit(unsigned int Flags)
{
	TRY(plan("cuInit"));
	if (Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	initialized = 1;
	return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *driverVersion)
{
	TRY(plan("cuDriverGetVersion"));
	if (!driverVersion)
		return CUDA_ERROR_INVALID_VALUE;
	*driverVersion = DRIVER_VERSION;
	return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{
	static const struct {
		CUresult code;
		const char *name;
	} names[] = {
#define NAMED(code) {code, #code}
		NAMED(CUDA_SUCCESS), NAMED(CUDA_ERROR_INVALID_VALUE), NAMED(CUDA_ERROR_OUT_OF_MEMORY),
		NAMED(CUDA_ERROR_NOT_INITIALIZED), NAMED(CUDA_ERROR_NO_DEVICE), NAMED(CUDA_ERROR_INVALID_DEVICE),
		NAMED(CUDA_ERROR_INVALID_CONTEXT), NAMED(CUDA_ERROR_INVALID_PTX), NAMED(CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
		NAMED(CUDA_ERROR_INVALID_HANDLE), NAMED(CUDA_ERROR_NOT_FOUND), NAMED(CUDA_ERROR_ILLEGAL_ADDRESS),
		NAMED(CUDA_ERROR_CONTEXT_IS_DESTROYED), NAMED(CUDA_ERROR_LAUNCH_FAILED), NAMED(CUDA_ERROR_NOT_SUPPORTED),
	};
	if (!pStr)
		return CUDA_ERROR_INVALID_VALUE;
	*pStr = NULL;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].code == error)
			*pStr = names[i].name;
	return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- devices ---- */

CUresult cuDeviceGetCount(int *count)
{
	TRY(enter("cuDeviceGetCount"));
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = DEVICES;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	TRY(enter("cuDeviceGet"));
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (ordinal < 0 || ordinal >= DEVICES)
		return CUDA_ERROR_INVALID_DEVICE;
	*device = FIRST_DEVICE + ordinal;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	TRY(enter_device("cuDeviceGetName", dev));
	if (!name || len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	memset(name, 'x', (size_t)len); /* all of it is the driver's to write */
	snprintf(name, (size_t)len, "Stand-in %c", 'A' + dev - FIRST_DEVICE);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	TRY(enter_device("cuDeviceGetAttribute", dev));
	if (!pi)
		return CUDA_ERROR_INVALID_VALUE;
	switch (attrib) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*pi = dev == FIRST_DEVICE ? 9 : 8;
		return CUDA_SUCCESS;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		*pi = dev == FIRST_DEVICE ? 0 : 6;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* ---- contexts ---- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
	TRY(enter_device("cuDevicePrimaryCtxRetain", dev));
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	int i = dev - FIRST_DEVICE;
	if (devices[i].retained == 0) {
		if (context_count == MAX_CONTEXTS)
			return CUDA_ERROR_OUT_OF_MEMORY;
		devices[i].primary = &contexts[context_count++];
		*devices[i].primary = (struct CUctx_st){.device = dev, .alive = 1};
	}
	devices[i].retained++;
	*pctx = devices[i].primary;
	return CUDA_SUCCESS;
}

static void unload(CUmodule m)
{
	m->context = NULL;
	free(m->text);
	m->text = NULL;
}

/* destroy frees what the context has, as a GPU's driver does, and counts it. */
static void destroy(CUcontext ctx)
{
	for (int i = range_count - 1; i >= 0; i--)
		if (ranges[i].context == ctx) {
			drop_range(i);
			leaked++;
		}
	for (CUmodule m = modules; m; m = m->next)
		if (m->context == ctx) {
			unload(m);
			leaked++;
		}
	ctx->alive = 0;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	TRY(enter_device("cuDevicePrimaryCtxRelease_v2", dev));
	int i = dev - FIRST_DEVICE;
	if (devices[i].retained == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (--devices[i].retained == 0)
		destroy(devices[i].primary);
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	TRY(enter("cuCtxSetCurrent"));
	if (ctx && (ctx < contexts || ctx >= contexts + context_count || !ctx->alive))
		return CUDA_ERROR_INVALID_CONTEXT;
	current = ctx;
	return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
	TRY(enter_context("cuCtxSynchronize"));
	broken = current->pending; /* it is of the kinds that no process survives */
	return broken;
}

/* ---- modules ---- */

static const char *skip_blank(const char *p)
{
	for (;;) {
		p += strspn(p, " \t\r\n");
		if (p[0] != '/' || p[1] != '/')
			return p;
		p += strcspn(p, "\n");
	}
}

/* word copies what comes next, up to white space or punctuation. */
static const char *word(const char *p, char *to)
{
	p = skip_blank(p);
	size_t n = strcspn(p, " \t\r\n(){}[],;");
	if (n >= NAME_BYTES)
		n = NAME_BYTES - 1;
	memcpy(to, p, n);
	to[n] = 0;
	return p + n;
}

static size_t type_bytes(const char *type)
{
	static const char *const types[] = {".u64", ".s64", ".b64", ".f64", ".u32", ".s32", ".b32", ".f32"};
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strcmp(type, types[i]) == 0)
			return i < 4 ? 8 : 4;
	return 0;
}

/* parameters reads "(.param .u64 x, ...)" and returns what follows, or NULL. */
static const char *parameters(const char *p, CUfunction f)
{
	char text[NAME_BYTES];
	p = skip_blank(p);
	if (*p++ != '(')
		return NULL;
	while (*(p = skip_blank(p)) != ')') {
		p = word(p, text);
		if (strcmp(text, ".param") != 0 || f->params == MAX_PARAMS)
			return NULL;
		p = word(p, text);
		if ((f->size[f->params++] = type_bytes(text)) == 0)
			return NULL;
		p = skip_blank(word(p, text));
		if (*p == ',')
			p++;
		else if (*p != ')')
			return NULL;
	}
	return p + 1;
}

/* header reads .version, .target and .address_size, which begin a module. */
static const char *header(const char *p, CUresult *result)
{
	char text[NAME_BYTES];
	int major, minor;
	*result = CUDA_ERROR_INVALID_PTX;
	p = word(p, text);
	if (strcmp(text, ".version") != 0)
		return NULL;
	p = word(p, text);
	if (sscanf(text, "%d.%d", &major, &minor) != 2)
		return NULL;
	if (major * 100 + minor > PTX_VERSION) {
		*result = CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
		return NULL;
	}
	p = word(p, text);
	if (strcmp(text, ".target") != 0)
		return NULL;
	p = word(p, text);
	if (strncmp(text, "sm_", 3) != 0)
		return NULL;
	p = word(p, text);
	if (strcmp(text, ".address_size") != 0)
		return NULL;
	p = word(p, text);
	return strcmp(text, "64") == 0 ? p : NULL;
}

/* parse finds the entries. What stands between braces is the launcher's. */
static CUresult parse(CUmodule m)
{
	CUresult result;
	char text[NAME_BYTES];
	int depth = 0;
	const char *p = header(m->text, &result);
	if (!p)
		return result;
	while (*(p = skip_blank(p))) {
		if (strchr("(){}[],;", *p)) {
			depth += (*p == '{') - (*p == '}');
			if (depth < 0)
				return CUDA_ERROR_INVALID_PTX;
			p++;
			continue;
		}
		p = word(p, text);
		/* Outside of functions only directives and names stand: also what
		 * lies behind an image that does not end in a NUL is seen here. */
		for (const char *c = text; *c; c++)
			if (*c < ' ' || *c > '~')
				return CUDA_ERROR_INVALID_PTX;
		if (depth > 0 || strcmp(text, ".entry") != 0)
			continue;
		if (m->functions == MAX_FUNCTIONS)
			return CUDA_ERROR_INVALID_PTX;
		CUfunction f = &m->function[m->functions++];
		f->module = m;
		p = parameters(word(p, f->name), f);
		if (!p)
			return CUDA_ERROR_INVALID_PTX;
	}
	return depth == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions, CUjit_option *options,
			    void **optionValues)
{
	TRY(enter_context("cuModuleLoadDataEx"));
	if (!module || !image || (numOptions > 0 && (!options || !optionValues)))
		return CUDA_ERROR_INVALID_VALUE;
	if (numOptions > 0)
		return CUDA_ERROR_NOT_SUPPORTED; /* by the stand-in */
	CUmodule m = calloc(1, sizeof *m);
	m->context = current;
	m->text = strdup(image);
	CUresult r = parse(m);
	if (r != CUDA_SUCCESS) {
		free(m->text);
		free(m);
		return r;
	}
	m->next = modules;
	modules = m;
	*module = m;
	return CUDA_SUCCESS;
}

static int is_module(CUmodule module)
{
	for (CUmodule m = modules; m; m = m->next)
		if (m == module)
			return m->context == current;
	return 0;
}

CUresult cuModuleUnload(CUmodule hmod)
{
	TRY(enter_context("cuModuleUnload"));
	if (!is_module(hmod))
		return CUDA_ERROR_INVALID_HANDLE;
	unload(hmod); /* stays in the list, so that a stale handle is known as such */
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
	TRY(enter_context("cuModuleGetFunction"));
	if (!hfunc || !name)
		return CUDA_ERROR_INVALID_VALUE;
	if (!is_module(hmod))
		return CUDA_ERROR_INVALID_HANDLE;
	for (int i = 0; i < hmod->functions; i++)
		if (strcmp(hmod->function[i].name, name) == 0) {
			*hfunc = &hmod->function[i];
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_NOT_FOUND;
}

/* ---- memory ---- */

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
	TRY(enter_context("cuMemAlloc_v2"));
	if (!dptr || bytesize == 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (bytesize > limit || allocated > limit - bytesize || range_count == MAX_RANGES)
		return CUDA_ERROR_OUT_OF_MEMORY;
	struct range r = {.address = next_address, .bytes = bytesize, .host = malloc(bytesize), .context = current};
	if (!r.host)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memset(r.host, 0xA5, bytesize);
	/* An address is never given twice, and between two lies what is nobody's. */
	next_address += (bytesize / ALIGNMENT + 2) * ALIGNMENT;
	allocated += bytesize;
	ranges[range_count++] = r;
	*dptr = r.address;
	return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	TRY(enter_context("cuMemFree_v2"));
	struct range *r = find(dptr, 1);
	if (!r || r->address != dptr)
		return CUDA_ERROR_INVALID_VALUE;
	drop_range((int)(r - ranges));
	return CUDA_SUCCESS;
}

CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N)
{
	TRY(enter_context("cuMemsetD8_v2"));
	struct range *r = find(dstDevice, N);
	if (!r)
		return CUDA_ERROR_INVALID_VALUE;
	memset(r->host + (dstDevice - r->address), uc, N);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
	TRY(enter_context("cuMemcpyHtoD_v2"));
	struct range *r = find(dstDevice, ByteCount);
	if (!r || !srcHost)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(r->host + (dstDevice - r->address), srcHost, ByteCount);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
	TRY(enter_context("cuMemcpyDtoH_v2"));
	struct range *r = find(srcDevice, ByteCount);
	if (!r || !dstHost)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(dstHost, r->host + (srcDevice - r->address), ByteCount);
	return CUDA_SUCCESS;
}

/* ---- launches ---- */

static int is_function(CUfunction f)
{
	for (CUmodule m = modules; m; m = m->next)
		if (m->context == current && f >= m->function && f < m->function + m->functions)
			return 1;
	return 0;
}

/* The limits are those of compute capability 3.0 and later. */
static int fits(const uint32_t grid[3], const uint32_t block[3])
{
	for (int i = 0; i < 3; i++)
		if (grid[i] == 0 || block[i] == 0 || grid[i] > (i == 0 ? 0x7fffffffu : 65535u) || block[i] > (i == 2 ? 64u : 1024u))
			return 0;
	return (uint64_t)block[0] * block[1] * block[2] <= 1024;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
			unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
			unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra)
{
	TRY(enter_context("cuLaunchKernel"));
	struct launch l = {
		.memory = ranges, .ranges = (uint64_t)range_count,
		.grid = {gridDimX, gridDimY, gridDimZ}, .block = {blockDimX, blockDimY, blockDimZ},
	};
	unsigned char params[8 * MAX_PARAMS] = {0};
	if (hStream || !is_function(f))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!fits(l.grid, l.block) || sharedMemBytes > 48 << 10 || extra || (f->params > 0 && !kernelParams))
		return CUDA_ERROR_INVALID_VALUE;
	if (!on_launch)
		return CUDA_ERROR_NOT_SUPPORTED;
	/* Each pointer is read as far as the kernel's text says, at its alignment. */
	for (int i = 0; i < f->params; i++) {
		l.param_bytes = (l.param_bytes + f->size[i] - 1) / f->size[i] * f->size[i];
		memcpy(params + l.param_bytes, kernelParams[i], f->size[i]);
		l.param_bytes += f->size[i];
	}
	l.params = params;
	l.ptx = f->module->text;
	l.kernel = f->name;
	memcpy(shape, l.grid, sizeof l.grid);
	memcpy(shape + 3, l.block, sizeof l.block);
	current->pending = (CUresult)on_launch(&l);
	return CUDA_SUCCESS;
}
