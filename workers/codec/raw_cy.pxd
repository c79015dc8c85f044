cdef Py_ssize_t copy(
    unsigned char* dst, Py_ssize_t at, const unsigned char* src, Py_ssize_t start, Py_ssize_t size
) noexcept nogil
cdef int digits(long long value) noexcept nogil
cdef Py_ssize_t decimal(unsigned char* dst, Py_ssize_t at, long long value, bint end) noexcept nogil
cdef unsigned long long load(const unsigned char* p, Py_ssize_t pos, int size) noexcept nogil
cdef long long load_signed(const unsigned char* p, Py_ssize_t pos, int size) noexcept nogil
cdef Py_ssize_t head_size(const unsigned char* p, Py_ssize_t pos, Py_ssize_t end) noexcept nogil
cdef unsigned long long length(const unsigned char* p, Py_ssize_t pos, Py_ssize_t size) noexcept nogil
cdef Py_ssize_t string_end(const unsigned char* p, Py_ssize_t pos, Py_ssize_t end) noexcept nogil
cdef Py_ssize_t store(unsigned char* dst, Py_ssize_t at, unsigned long long value, int size) noexcept nogil
